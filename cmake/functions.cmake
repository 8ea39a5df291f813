# Declares library `name` from the objects `name-objects`; modules add their sources to it with
# weir_sources. Only functions marked WEIR_API leave the shared library.
function(weir_library name)
    add_library(${name}-objects OBJECT)
    target_include_directories(${name}-objects PRIVATE ${weir_SOURCE_DIR}/include)
    if(name STREQUAL weir)
        target_include_directories(${name}-objects PRIVATE ${weir_SOURCE_DIR}/src)
    endif()
    add_library(${name} STATIC $<TARGET_OBJECTS:${name}-objects>)
    weir_export(${name} -static)
    if(WEIR_SHARED)
        add_library(${name}-shared SHARED $<TARGET_OBJECTS:${name}-objects>)
        set_target_properties(${name}-shared PROPERTIES OUTPUT_NAME ${name}
            VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR})
        if(name STREQUAL weir)
            target_link_libraries(${name}-shared PRIVATE Threads::Threads m ${CMAKE_DL_LIBS})
        else()
            target_link_libraries(${name}-shared PUBLIC weir-shared PRIVATE m)
            set_target_properties(${name}-shared PROPERTIES INSTALL_RPATH "$ORIGIN")
        endif()
        weir_export(${name}-shared "")
    endif()
endfunction()

# Gives a library its public headers and installs it, for other projects named weir::weir or
# weir::llm with `suffix`.
function(weir_export target suffix)
    string(REGEX REPLACE "^(weir-)?(weir|llm)(-shared)?$" "\\2" export_name ${target})
    set_target_properties(${target} PROPERTIES EXPORT_NAME ${export_name}${suffix})
    target_include_directories(${target} PUBLIC
        $<BUILD_INTERFACE:${weir_SOURCE_DIR}/include>
        $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
    install(TARGETS ${target} EXPORT weirTargets DESTINATION ${CMAKE_INSTALL_LIBDIR})
endfunction()

# Adds the sources of one module to a library.
function(weir_sources library)
    foreach(source ${ARGN})
        target_sources(${library}-objects PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/${source})
    endforeach()
endfunction()

# Declares test `name` from tests/`name`.c; it may look into src/ and is run by ctest.
function(weir_test name)
    add_executable(${name} ${name}.c)
    target_include_directories(${name} PRIVATE ${weir_SOURCE_DIR}/src ${weir_SOURCE_DIR}/tests)
    target_link_libraries(${name} PRIVATE ${ARGN} weir PkgConfig::CMOCKA)
    set_target_properties(${name} PROPERTIES
        RUNTIME_OUTPUT_DIRECTORY ${weir_BINARY_DIR}/tests)
    add_test(NAME ${name} COMMAND ${name})
    set_tests_properties(${name} PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 600
        ENVIRONMENT "WEIR_SOURCE_DIR=${weir_SOURCE_DIR};WEIR_BINARY_DIR=${weir_BINARY_DIR}")
endfunction()
