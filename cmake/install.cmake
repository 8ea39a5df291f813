# What other projects find after an installation: the headers, find_package(weir) with the targets
# weir::weir and weir::llm, and the pkg-config modules weir and weir-llm. Nothing names the prefix,
# so that the installed tree can be moved.
include(CMakePackageConfigHelpers)

install(DIRECTORY include/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/weir)
install(EXPORT weirTargets NAMESPACE weir:: DESTINATION ${package_dir})
write_basic_package_version_file(${weir_BINARY_DIR}/weirConfigVersion.cmake
    COMPATIBILITY SameMinorVersion)
install(FILES cmake/weirConfig.cmake ${weir_BINARY_DIR}/weirConfigVersion.cmake
    DESTINATION ${package_dir})

set(pc_dir ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
file(RELATIVE_PATH pc_prefix /prefix/${pc_dir} /prefix)
string(REGEX REPLACE "/$" "" pc_prefix ${pc_prefix})
foreach(library weir weir-llm)
    if(library STREQUAL weir)
        set(pc_description "Memory and synchronisation layer of an inference engine")
        set(pc_requires "")
        set(pc_private "-lm -pthread")
    else()
        set(pc_description "Runs language models on weir")
        set(pc_requires "weir = ${PROJECT_VERSION}")
        set(pc_private "-lm")
    endif()
    configure_file(cmake/weir.pc.in ${weir_BINARY_DIR}/${library}.pc @ONLY)
    install(FILES ${weir_BINARY_DIR}/${library}.pc DESTINATION ${pc_dir})
endforeach()
