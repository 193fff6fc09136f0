//! Error messages of the compiler for values that a session cannot hold.
//!
//! The expected words are those of the stable compiler that this is developed with. After an
//! update of Rust: `TRYBUILD=overwrite cargo test --test compile_fail`, and read the difference.

#[test]
fn the_compiler_says_what_is_wrong_with_an_attribute() {
    trybuild::TestCases::new().compile_fail("cases/*.rs");
}
