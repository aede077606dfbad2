# Compiler settings for every target. Nothing here follows the builder's CPU: kernels choose their
# instruction set at run time, one translation unit for each (see src/backend/cpu).
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)

# Dev: quick to compile, asserts on, debuggable.
set(CMAKE_CXX_FLAGS_DEV "-O1 -g1" CACHE STRING "" FORCE)
set(CMAKE_C_FLAGS_DEV "-O1 -g1" CACHE STRING "" FORCE)
set(CMAKE_CXX_FLAGS_RELEASE "-O3 -g1 -DNDEBUG" CACHE STRING "" FORCE)

add_compile_options(-Wall -Wextra -Wno-missing-field-initializers -fno-math-errno)
if(CMAKE_UNITY_BUILD)
  # GCC takes a source that another one includes for a header, in which an anonymous namespace would be a mistake.
  add_compile_options($<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-subobject-linkage>)
endif()
add_compile_definitions(SPDLOG_COMPILED_LIB SPDLOG_FMT_EXTERNAL)

set(RIDGE_SANITIZE "" CACHE STRING "Sanitizers, as for -fsanitize=")
if(RIDGE_SANITIZE)
  add_compile_options(-fsanitize=${RIDGE_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  # The processor traps on a null pointer, and AddressSanitizer names it; checked everywhere, it would cost a
  # tenth of the build.
  add_compile_options(-fno-sanitize=null)
  # Instrumented code compiles a third faster at -O0 than at -O1, and most of it runs for milliseconds: see
  # ridge_computes for what does not.
  set(CMAKE_CXX_FLAGS_DEV "-O0 -g1")
  add_link_options(-fsanitize=${RIDGE_SANITIZE})
endif()

find_program(CCACHE ccache)
if(CCACHE)
  # Without this it keeps nothing that uses a precompiled header.
  set(CMAKE_CXX_COMPILER_LAUNCHER
    "${CMAKE_COMMAND}" -E env CCACHE_SLOPPINESS=pch_defines,time_macros "${CCACHE}")
  set(CMAKE_C_COMPILER_LAUNCHER "${CCACHE}")
endif()

find_package(Threads REQUIRED)
find_package(fmt REQUIRED)
find_package(spdlog REQUIRED)

# What most of src/ includes is compiled once, in this library, which all others link.
set(RIDGE_PRECOMPILED_IN ridge_base)

# ridge_precompile(NAME HEADER OWNER): the target NAME uses the precompiled HEADER of the target OWNER, which
# may be NAME itself. Sources with compile flags of their own go without: SKIP_PRECOMPILE_HEADERS.
function(ridge_precompile name header owner)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # For ccache; and GCC 12 warns of its own strings' insides (GCC bug 105651) where they come from a
    # precompiled header.
    target_compile_options(${name} PRIVATE
      $<$<COMPILE_LANGUAGE:CXX>:-fpch-preprocess;-Wno-array-bounds;-Wno-restrict;-Wno-stringop-overflow>)
  endif()
  if(name STREQUAL owner)
    target_precompile_headers(${name} PRIVATE "${header}")
  else()
    target_precompile_headers(${name} REUSE_FROM ${owner})
  endif()
endfunction()

# ridge_add_library(NAME sources... LIBS libraries...): a static library with includes from src/.
function(ridge_add_library name)
  cmake_parse_arguments(ARG "" "" "LIBS" ${ARGN})
  add_library(${name} STATIC ${ARG_UNPARSED_ARGUMENTS})
  target_include_directories(${name} PUBLIC "${PROJECT_SOURCE_DIR}/src")
  target_link_libraries(${name} PUBLIC ${ARG_LIBS})
  ridge_precompile(${name} "${PROJECT_SOURCE_DIR}/src/base/precompiled.h" ${RIDGE_PRECOMPILED_IN})
endfunction()

# ridge_computes(NAME): most of the tests' time is spent in this library, so that sanitized builds optimise it too.
function(ridge_computes name)
  if(RIDGE_SANITIZE)
    target_compile_options(${name} PRIVATE -O1)
    set_target_properties(${name} PROPERTIES DISABLE_PRECOMPILE_HEADERS ON)
  endif()
endfunction()
