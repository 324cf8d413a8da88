# libedgekit_jni.so, which runtimes/android's Kotlin loads: for Android with the NDK's toolchain file, or for the JVM at hand.
add_library(edgekit_jni SHARED runtimes/android/src/main/cpp/edgekit_jni.cpp)
target_compile_options(edgekit_jni PRIVATE ${EDGEKIT_WARNINGS} $<$<CONFIG:Release>:-Os>)
target_link_libraries(edgekit_jni PRIVATE edgekit_core)
# Android 15 loads libraries on pages of 16 KiB; what is exported is the functions of Native and nothing of the engine.
target_link_options(edgekit_jni PRIVATE -Wl,-z,max-page-size=16384 -Wl,--exclude-libs,ALL -Wl,--gc-sections)
if(NOT ANDROID)  # the NDK brings jni.h with it
    set(EDGEKIT_JDK "$ENV{JAVA_HOME}" CACHE PATH "A JDK, for its jni.h (default: JAVA_HOME)")
    if(NOT EXISTS ${EDGEKIT_JDK}/include/jni.h)
        message(FATAL_ERROR "EDGEKIT_BUILD_JNI needs jni.h, and \"${EDGEKIT_JDK}\" is no JDK: pass -DEDGEKIT_JDK=<a JDK>")
    endif()
    target_include_directories(edgekit_jni SYSTEM PRIVATE ${EDGEKIT_JDK}/include ${EDGEKIT_JDK}/include/linux)
endif()
