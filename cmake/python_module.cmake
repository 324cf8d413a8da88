# edgekit.runtimes._edgekit: pybind11 over the C interface, and nothing of the engine's own headers.
find_package(Python REQUIRED COMPONENTS Interpreter Development.Module)
find_package(pybind11 CONFIG REQUIRED)
file(GLOB sources CONFIGURE_DEPENDS runtimes/python/*.cpp)
pybind11_add_module(_edgekit NO_EXTRAS ${sources})  # no link-time optimization: it costs minutes and gains nothing in glue
target_compile_options(_edgekit PRIVATE ${EDGEKIT_WARNINGS})
target_link_libraries(_edgekit PRIVATE edgekit_core)
