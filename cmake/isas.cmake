# The instruction sets: one row each. cpp/src/isa/<name>.cpp is compiled with the row's flags, nothing else is.
# The core learns which were built from EDGEKIT_HAVE_<NAME>.
#
#     name           processor  flags
set(EDGEKIT_ISA_TABLE
    "scalar          any"
    "avx2            x86_64     -mavx2 -mfma -mf16c"
    "avxvnni         x86_64     -mavx2 -mfma -mf16c -mavxvnni"
    "avx512vnni      x86_64     -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vbmi -mavx512vnni -mfma -mf16c"
    "neon            aarch64    -march=armv8-a"
    "neon_dotprod    aarch64    -march=armv8.2-a+dotprod+fp16"
    "neon_i8mm       aarch64    -march=armv8.2-a+dotprod+fp16+i8mm"
    "wasm_simd       wasm       -msimd128"
    "wasm_relaxed    wasm       -msimd128 -mrelaxed-simd"
)
# For the tests: machines that run AVX-VNNI are few, so they compute its one instruction by others.
if(EDGEKIT_BUILD_TESTS)
    list(APPEND EDGEKIT_ISA_TABLE "avxvnni_emulated x86_64 -mavx2 -mfma -mf16c")
endif()

# A WebAssembly module is refused whole by an engine that lacks one of its instructions: the relaxed build asks for its row.
set(EDGEKIT_ISAS "" CACHE STRING "Instruction sets to build, of those for this processor (default: all; for wasm: scalar;wasm_simd)")

if(EMSCRIPTEN OR CMAKE_SYSTEM_PROCESSOR MATCHES "^wasm")
    set(edgekit_processor wasm)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
    set(edgekit_processor x86_64)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64|ARM64)$")
    set(edgekit_processor aarch64)
else()
    set(edgekit_processor unknown)
endif()
if(edgekit_processor STREQUAL wasm AND NOT EDGEKIT_ISAS)
    set(EDGEKIT_ISAS scalar wasm_simd)
endif()
if(EDGEKIT_ISAS MATCHES "neon_" AND NOT "neon" IN_LIST EDGEKIT_ISAS)
    list(APPEND EDGEKIT_ISAS neon)  # which the others extend
endif()
# Every 64-bit ARM processor has NEON: plain C++ is what the tests hold it against, and no part of an app.
if(edgekit_processor STREQUAL aarch64 AND NOT EDGEKIT_BUILD_TESTS)
    list(FILTER EDGEKIT_ISA_TABLE EXCLUDE REGEX "^scalar ")
endif()

# edgekit_isa_objects(<target> <out>): compiles the rows for this processor, tells <target>'s sources which, and lists the objects.
function(edgekit_isa_objects target objects)
    foreach(row IN LISTS EDGEKIT_ISA_TABLE)
        separate_arguments(flags UNIX_COMMAND "${row}")
        list(POP_FRONT flags isa processor)
        if(EDGEKIT_ZIG)  # which names processors, not architectures
            list(TRANSFORM flags REPLACE "-march=armv8[.0-9]*-a" "-mcpu=generic")
            list(TRANSFORM flags REPLACE "fp16" "fullfp16")
        endif()
        set(source ${CMAKE_CURRENT_SOURCE_DIR}/src/isa/${isa}.cpp)
        if(NOT processor MATCHES "^(any|${edgekit_processor})$" OR NOT EXISTS ${source})
            continue()
        endif()
        if(EDGEKIT_ISAS AND NOT isa IN_LIST EDGEKIT_ISAS)
            continue()
        endif()
        add_library(edgekit_isa_${isa} OBJECT ${source})
        # Additions and multiplications are fused where a kernel says so and nowhere else: the same rounding on every compiler.
        target_compile_options(edgekit_isa_${isa} PRIVATE ${EDGEKIT_WARNINGS} -ffp-contract=off ${flags})
        target_include_directories(edgekit_isa_${isa} PRIVATE include src)
        string(TOUPPER EDGEKIT_HAVE_${isa} definition)
        target_compile_definitions(${target} PRIVATE ${definition})
        list(APPEND built ${isa})
        list(APPEND list_of_objects $<TARGET_OBJECTS:edgekit_isa_${isa}>)
    endforeach()
    message(STATUS "edgekit: instruction sets for ${edgekit_processor}: ${built}")
    set(${objects} ${list_of_objects} PARENT_SCOPE)
endfunction()
