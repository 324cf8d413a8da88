# The GPU backend: cpp/src/gpu over one kind of device, with that device's kernels as strings.
set(EDGEKIT_GPU "" CACHE STRING "The kind of device: webgpu (wgpu-native, looked for at run time), browser (WebGPU of the page that loads the module: for runtimes/web), metal, metal_shim (Metal's kernels run as C++, for tests); empty: no GPU backend")
set(EDGEKIT_GPU_HEADERS "" CACHE PATH "What the device is compiled against: the folder of webgpu.h and wgpu.h (the wheel `wgpu` has them in wgpu/resources), or of metal-cpp")

# edgekit_gpu(<target>): adds the backend to the target.
function(edgekit_gpu target)
    set(device ${CMAKE_CURRENT_SOURCE_DIR}/src/gpu/${EDGEKIT_GPU}_device.cpp)
    if(EDGEKIT_GPU STREQUAL metal_shim)
        set(device ${PROJECT_SOURCE_DIR}/tests/cpp/metal_shim/metal_shim_device.cpp)
        set_source_files_properties(${device} PROPERTIES COMPILE_DEFINITIONS
            "EDGEKIT_SHIM_COMPILER=\"${CMAKE_CXX_COMPILER}\";EDGEKIT_SHIM_FOLDER=\"${PROJECT_SOURCE_DIR}/tests/cpp/metal_shim\"")
    endif()
    set(language wgsl)
    if(EDGEKIT_GPU MATCHES metal)
        set(language msl)
    endif()
    set(source ${CMAKE_CURRENT_BINARY_DIR}/${language}.cpp)
    set(script ${PROJECT_SOURCE_DIR}/cmake/embed_kernels.cmake)
    file(GLOB kernels CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/src/gpu/${language}/*)
    add_custom_command(OUTPUT ${source} DEPENDS ${kernels} ${script}
        COMMAND ${CMAKE_COMMAND} -DOUT=${source} -DLANGUAGE=${language} "-DKERNELS=${kernels}" -P ${script} VERBATIM)
    target_sources(${target} PRIVATE src/gpu/gpu_backend.cpp src/gpu/program.cpp ${device} ${source})
    target_include_directories(${target} SYSTEM PRIVATE ${EDGEKIT_GPU_HEADERS})
    set_source_files_properties(src/api/model.cpp PROPERTIES COMPILE_DEFINITIONS EDGEKIT_GPU)
    target_link_libraries(${target} PUBLIC ${CMAKE_DL_LIBS})
endfunction()
