# The kernels of the Vulkan back end are built from their sources where there is glslc, and taken
# from the repository (src/backends/vulkan/spirv) otherwise. What is built lies in the build folder
# alone, in front of the words of the repository; scripts/build_shaders.py renews those.
set(WEIR_SHADERS AUTO CACHE STRING
    "Kernels of Vulkan: BUILD with glslc, PREBUILT words, or AUTO: build where glslc can")
set_property(CACHE WEIR_SHADERS PROPERTY STRINGS AUTO BUILD PREBUILT)

# Sets `result` to whether glslc knows what the most demanding kernel needs.
function(weir_probe_glslc glslc source result)
    if(NOT DEFINED WEIR_GLSLC_BUILDS OR NOT WEIR_GLSLC_PROBED STREQUAL glslc)
        set(status "no glslc")
        if(glslc)
            execute_process(COMMAND ${glslc} -O --target-env=vulkan1.2 ${source} -o -
                OUTPUT_QUIET ERROR_QUIET RESULT_VARIABLE status)
        endif()
        string(COMPARE EQUAL "${status}" 0 builds)
        set(WEIR_GLSLC_BUILDS ${builds} CACHE INTERNAL "Whether glslc builds the kernels")
        set(WEIR_GLSLC_PROBED ${glslc} CACHE INTERNAL "Which glslc that is")
    endif()
    set(${result} ${WEIR_GLSLC_BUILDS} PARENT_SCOPE)
endfunction()

# Builds the words of all kernels in `folder` for a library; called where the library is declared.
function(weir_shaders library folder)
    find_program(WEIR_GLSLC glslc)
    mark_as_advanced(WEIR_GLSLC)
    weir_probe_glslc("${WEIR_GLSLC}" ${weir_SOURCE_DIR}/${folder}/matmul_dots.comp builds)
    if(WEIR_SHADERS STREQUAL PREBUILT OR (WEIR_SHADERS STREQUAL AUTO AND NOT builds))
        message(STATUS "Kernels of Vulkan: prebuilt")
        return()
    elseif(NOT builds)
        message(FATAL_ERROR "WEIR_SHADERS is ${WEIR_SHADERS}, and glslc is missing or too old")
    endif()
    message(STATUS "Kernels of Vulkan: built with ${WEIR_GLSLC}")
    file(GLOB sources CONFIGURE_DEPENDS ${weir_SOURCE_DIR}/${folder}/*.comp)
    set(words ${weir_BINARY_DIR}/shaders)
    file(MAKE_DIRECTORY ${words}/backends/vulkan/spirv)
    foreach(source ${sources})
        cmake_path(GET source STEM name)
        set(target ${words}/backends/vulkan/spirv/${name}.inc)
        add_custom_command(OUTPUT ${target} DEPENDS ${source} DEPFILE ${target}.d
            COMMAND ${WEIR_GLSLC} -O --target-env=vulkan1.2 -mfmt=num -MD -MF ${target}.d
                -MT ${target} -o ${target} ${source}
            COMMENT "Building kernel ${name}" VERBATIM)
        target_sources(${library}-objects PRIVATE ${target})
    endforeach()
    set_source_files_properties(src/backends/vulkan/vulkan_shaders.c
        TARGET_DIRECTORY ${library}-objects PROPERTIES INCLUDE_DIRECTORIES ${words})
endfunction()
