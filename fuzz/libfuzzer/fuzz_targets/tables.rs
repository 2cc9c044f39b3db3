#![no_main]

#[global_allocator]
static MEMORY: ironpost_fuzz::memory::Counting = ironpost_fuzz::memory::Counting;

libfuzzer_sys::fuzz_target!(|input: &[u8]| ironpost_fuzz::tables::run(input));
