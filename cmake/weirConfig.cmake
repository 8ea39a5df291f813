include(CMakeFindDependencyMacro)
find_dependency(Threads)
include(${CMAKE_CURRENT_LIST_DIR}/weirTargets.cmake)

# weir::weir and weir::llm are the shared libraries, or the static ones where those were not built;
# weir::weir-static and weir::llm-static are always there.
foreach(part weir llm)
    if(NOT TARGET weir::${part})
        add_library(weir::${part} ALIAS weir::${part}-static)
    endif()
endforeach()
