"""What every page must do, whatever it shows: on a screen and on a phone, in both themes, and on paper."""

from browser import PHONE, SCREEN, check, fits, is_open_to_all, logs_nothing, opened, opens_details, shot
from themes import changes_theme, follows_a_preference, has_pictures_of, is_light_on_paper


def works(page, folder, needs_pictures=False):
    print(f"-- {page}")
    for size in (SCREEN, PHONE):
        driver = opened(page, size)
        opens_details(driver)
        fits(driver, size, "it")
        loaded = driver.execute_script("return [...document.images].map(image => image.complete && image.naturalWidth > 0)")
        check(all(loaded) and (loaded or not needs_pictures), f"its {len(loaded)} pictures are loaded")
        has_pictures_of(driver, "light")
        is_open_to_all(driver, f"light, {size[0]} px")
        name = f"{page.parent.name}-{page.stem}-{size[0]}"
        shot(driver, folder, name)
        if changes_theme(driver):
            has_pictures_of(driver, "dark")
            # Colors do not depend on the width.
            if size == SCREEN:
                is_open_to_all(driver, "dark")
            shot(driver, folder, f"{name}-dark")
        is_light_on_paper(driver)
        logs_nothing(driver)
        driver.quit()
    follows_a_preference(page)
