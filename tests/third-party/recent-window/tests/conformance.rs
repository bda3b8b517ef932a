kv_conformance::conformance_tests!(recent_window::RecentWindow {
    default: "",
    small: "window = 7",
});
