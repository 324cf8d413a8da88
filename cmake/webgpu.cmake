# The GPU backend: cpp/src/gpu, compiled against webgpu.h of wgpu-native, whose library is looked for at run time. It is built where
# EDGEKIT_WEBGPU_HEADERS says where that header is (the wheel `wgpu` has it in wgpu/resources).
set(EDGEKIT_WEBGPU_HEADERS "" CACHE PATH "The folder of wgpu-native's webgpu.h and wgpu.h; empty: no GPU backend")

# edgekit_gpu(<target>): adds the backend to the target, with the kernels' sources as strings.
function(edgekit_gpu target)
    set(source ${CMAKE_CURRENT_BINARY_DIR}/wgsl.cpp)
    set(script ${PROJECT_SOURCE_DIR}/cmake/embed_wgsl.cmake)
    file(GLOB kernels CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/src/gpu/wgsl/*.wgsl)
    add_custom_command(OUTPUT ${source} DEPENDS ${kernels} ${script}
        COMMAND ${CMAKE_COMMAND} -DOUT=${source} "-DKERNELS=${kernels}" -P ${script} VERBATIM)
    file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/src/gpu/*.cpp)
    target_sources(${target} PRIVATE ${sources} ${source})
    target_include_directories(${target} SYSTEM PRIVATE ${EDGEKIT_WEBGPU_HEADERS})
    set_source_files_properties(src/api/model.cpp PROPERTIES COMPILE_DEFINITIONS EDGEKIT_GPU)
    target_link_libraries(${target} PUBLIC ${CMAKE_DL_LIBS})
endfunction()
