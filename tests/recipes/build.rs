//! The gRPC service of a recipe. It is generated without a `.proto` file, whose compiler would have
//! to be installed.

use tonic_build::manual::{Builder, Method, Service};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let add = Method::builder()
        .name("add")
        .route_name("Add")
        .input_type("String")
        .output_type("u32")
        .codec_path("tonic_prost::ProstCodec")
        .build();
    let cart = Service::builder()
        .name("Cart")
        .package("shop")
        .method(add)
        .build();
    Builder::new().compile(&[cart]);
}
