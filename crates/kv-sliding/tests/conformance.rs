//! The sliding window against the suite, with and without sinks and with several formats.

kv_conformance::conformance_tests!(kv_sliding::Sliding {
    default: "",
    one: "window = 1",
    sixteen: "window = 16",
    seventeen_with_sinks: "window = 17\nsinks = 4",
    sixty_four_with_a_sink: "window = 64\nsinks = 1",
    only_sinks_at_first: "window = 3\nsinks = 40",
    larger_than_all: "window = 5000",
    f16: "window = 32\nformat = 'f16'",
    bf16_with_sinks: "window = 32\nsinks = 4\nformat = 'bf16'",
    q8_0_with_sinks: "window = 50\nsinks = 4\nformat = 'q8_0'",
    q4_0: "window = 32\nformat = 'q4_0'",
});
