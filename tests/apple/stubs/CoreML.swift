// There is a Core ML: coreml_runner.mm calls it.
