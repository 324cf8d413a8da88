# cmake --install: the headers, the static library, the shared one with EDGEKIT_SHARED, and what CMake and pkg-config need to find
# them. The prefix may be moved afterwards.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(edgekit_cmake_dir ${CMAKE_INSTALL_LIBDIR}/cmake/edgekit)

install(DIRECTORY cpp/include/edgekit DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
set_target_properties(edgekit_core PROPERTIES EXPORT_NAME static)
set(edgekit_libraries edgekit_core)
if(EDGEKIT_SHARED)
    list(APPEND edgekit_libraries edgekit)
endif()
install(TARGETS ${edgekit_libraries} EXPORT edgekitTargets INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT edgekitTargets NAMESPACE edgekit:: DESTINATION ${edgekit_cmake_dir})
configure_package_config_file(cmake/edgekitConfig.cmake.in ${PROJECT_BINARY_DIR}/edgekitConfig.cmake
    INSTALL_DESTINATION ${edgekit_cmake_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/edgekitConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/edgekitConfig.cmake ${PROJECT_BINARY_DIR}/edgekitConfigVersion.cmake
    DESTINATION ${edgekit_cmake_dir})

# From lib/pkgconfig, or lib/<architecture>/pkgconfig, up to the prefix.
file(RELATIVE_PATH edgekit_pc_prefix /prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig /prefix)
list(TRANSFORM CMAKE_CXX_IMPLICIT_LINK_LIBRARIES PREPEND -l OUTPUT_VARIABLE edgekit_pc_private)
list(FILTER edgekit_pc_private INCLUDE REGEX "^-l(stdc\\+\\+|c\\+\\+|m)$")
list(REMOVE_DUPLICATES edgekit_pc_private)
list(JOIN edgekit_pc_private " " edgekit_pc_private)
string(APPEND edgekit_pc_private " ${CMAKE_THREAD_LIBS_INIT}")
configure_file(cmake/edgekit.pc.in ${PROJECT_BINARY_DIR}/edgekit.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/edgekit.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
