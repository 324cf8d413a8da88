tools/build-arm.sh --test
