"""The themes of a page: its button, the reader's preference, its pictures, and paper."""

from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from browser import WHITE, check, is_pressed, opened, paper, visible


def changes_theme(driver):
    """From a light page to a dark one. Nothing is asked of a page without the button."""
    if is_pressed(driver) is None:
        return False
    light, was_pressed = paper(driver), is_pressed(driver)
    driver.find_element(By.ID, "theme").send_keys(Keys.ENTER)
    dark = paper(driver)
    check(light == WHITE and dark not in (light, ""), f"the theme changes from {light} to {dark}")
    check((was_pressed, is_pressed(driver)) == (False, True), "its button says so")
    return True


def has_pictures_of(driver, theme):
    """Of pictures that there are for both themes, those of this one are shown."""
    shown = {picture.get_attribute("class") for picture in visible(driver, "img.picture")}
    if driver.find_elements(By.CSS_SELECTOR, "img.picture"):
        check(shown == {f"picture {theme}"}, f"its pictures are {theme}")


def is_light_on_paper(driver):
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    check(paper(driver) == WHITE and not visible(driver, "#theme"), "on paper it is light, and has no button for the theme")
    has_pictures_of(driver, "light")
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def follows_a_preference(page):
    """A reader who prefers dark pages gets one, whether the preference was there at first or comes while the page is open."""
    driver = opened(page)
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]})
    for when in ("comes later", "was there at first"):
        check(paper(driver) not in (WHITE, ""), f"with a preference for dark that {when}, the page is dark: {paper(driver)}")
        check(is_pressed(driver) in (True, None), "and its button, if there is one, says so")
        has_pictures_of(driver, "dark")
        driver.refresh()
    driver.quit()
