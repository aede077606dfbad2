# The target `fuzzers` builds all of them, into fuzzers/ of the build folder.
add_custom_target(fuzzers)

# ridge_add_fuzzer(NAME sources... LIBS libraries...): the libFuzzer program fuzzers/NAME, which
# tools/fuzz runs on the seeds of tests/**/corpus/NAME.
function(ridge_add_fuzzer name)
  cmake_parse_arguments(ARG "" "" "LIBS" ${ARGN})
  set(target ${name}_fuzzer)
  add_executable(${target} ${ARG_UNPARSED_ARGUMENTS})
  set_target_properties(${target} PROPERTIES
    OUTPUT_NAME ${name} RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/fuzzers")
  target_include_directories(${target} PRIVATE "${PROJECT_SOURCE_DIR}/src" "${PROJECT_SOURCE_DIR}/tests")
  target_compile_options(${target} PRIVATE -fsanitize=fuzzer)
  target_link_options(${target} PRIVATE -fsanitize=fuzzer)
  target_link_libraries(${target} PRIVATE ${ARG_LIBS})
  add_dependencies(fuzzers ${target})
endfunction()

# Coverage feedback must reach the libraries under test as well.
add_compile_options(-fsanitize=fuzzer-no-link)
