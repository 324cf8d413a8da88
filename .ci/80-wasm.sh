tools/build-wasm.sh --test
