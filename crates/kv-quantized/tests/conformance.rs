//! The quantized cache against the suite, with several formats and residual windows.

kv_conformance::conformance_tests!(kv_quantized::Quantized {
    default: "",
    q8_0_residual_one: "residual = 1",
    q8_0_residual_that_holds_every_text: "residual = 5000",
    q8_0_residual_32: "residual = 32",
    q4_0: "format = 'q4_0'",
    q4_0_residual_17: "format = 'q4_0'\nresidual = 17",
    q4_g16_residual_128: "format = 'q4_g16'\nresidual = 128",
    keys_8_values_4: "format = { keys = 'q8_0', values = 'q4_0' }\nresidual = 16",
    q4_1: "format = 'q4_1'",
    kivi2: "format = 'kivi2_g16'",
    kivi2_residual_20: "format = 'kivi2_g16'\nresidual = 20",
    kivi4_residual_128: "format = 'kivi4_g16'\nresidual = 128",
    kivi_keys: "format = { keys = 'kivi2_g32' }\nresidual = 7",
    kivi_values: "format = { keys = 'q8_g16', values = 'kivi2_g16' }\nresidual = 7",
    keys_only: "format = { keys = 'q4_0' }",
    values_only_f16_keys: "format = { keys = 'f16', values = 'q8_0' }",
});
