//! The contiguous cache against the suite, with every growth and several formats.

kv_conformance::conformance_tests!(kv_contiguous::Contiguous {
    doubling: "",
    concat: "growth = 'concat'",
    reserve: "growth = { reserve = 1000 }",
    reserve_small: "growth = { reserve = 200 }",
    f16: "format = 'f16'",
    bf16_concat: "growth = 'concat'\nformat = 'bf16'",
    q8_0: "format = 'q8_0'",
    q4_0_reserve: "growth = { reserve = 1000 }\nformat = 'q4_0'",
    keys_only: "format = { keys = 'q8_g16' }",
});
