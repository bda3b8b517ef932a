//! The paged cache against the suite, with several page sizes and formats.

kv_conformance::conformance_tests!(kv_paged::Paged {
    default: "",
    one: "block_size = 1",
    seven: "block_size = 7",
    sixty_four: "block_size = 64",
    limited: "block_size = 16\nmax_blocks = 70",
    f16: "format = 'f16'",
    bf16_pages_of_32: "block_size = 32\nformat = 'bf16'",
    q8_0: "format = 'q8_0'",
    q4_0: "block_size = 8\nformat = 'q4_0'",
    mixed: "format = { keys = 'q8_0', values = 'q4_0' }",
});
