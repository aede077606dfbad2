# ridge_add_fuzzer(NAME sources... LIBS libraries...): a libFuzzer program, built by the target `fuzzers`.
# Seeds for it lie in a folder corpus/NAME anywhere under tests/ (see tools/fuzz).
add_custom_target(fuzzers)

function(ridge_add_fuzzer name)
  cmake_parse_arguments(ARG "" "" "LIBS" ${ARGN})
  add_executable(${name} ${ARG_UNPARSED_ARGUMENTS})
  target_include_directories(${name} PRIVATE "${PROJECT_SOURCE_DIR}/src")
  target_compile_options(${name} PRIVATE -fsanitize=fuzzer)
  target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  target_link_libraries(${name} PRIVATE ${ARG_LIBS})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/fuzzers")
  add_dependencies(fuzzers ${name})
endfunction()
# Coverage feedback must reach the libraries under test as well.
add_compile_options(-fsanitize=fuzzer-no-link)
