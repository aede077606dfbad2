enable_testing()
find_package(GTest REQUIRED)
include(GoogleTest)

# Fixtures are unpacked here by the target ridge_fixtures (tests/fixtures/).
set(RIDGE_FIXTURE_DIR "${PROJECT_BINARY_DIR}/fixtures")

# What all tests include is compiled once, in this program, which is one of them.
set(RIDGE_TESTS_PRECOMPILED_IN precompiled_test)

# ridge_add_test(NAME sources... LIBS libraries...): one GoogleTest program; each case is a CTest case, or with
# WHOLE the program is, where its cases share what takes long to set up.
# RIDGE_SOURCE_DIR is defined, so that a test finds files under tests/, and RIDGE_FIXTURE_DIR, where
# tests/fixtures/ is unpacked.
function(ridge_add_test name)
  cmake_parse_arguments(ARG "WHOLE" "TIMEOUT" "LIBS" ${ARGN})
  add_executable(${name} ${ARG_UNPARSED_ARGUMENTS})
  target_include_directories(${name} PRIVATE "${PROJECT_SOURCE_DIR}/src" "${PROJECT_SOURCE_DIR}/tests")
  # Tests run for milliseconds and compile for seconds.
  if(NOT RIDGE_SANITIZE)
    target_compile_options(${name} PRIVATE -O1)
  endif()
  target_compile_definitions(${name} PRIVATE
    RIDGE_SOURCE_DIR="${PROJECT_SOURCE_DIR}" RIDGE_FIXTURE_DIR="${RIDGE_FIXTURE_DIR}")
  add_dependencies(${name} ridge_fixtures)
  target_link_libraries(${name} PRIVATE ${ARG_LIBS} GTest::gtest GTest::gmock GTest::gtest_main)
  ridge_precompile(${name} "${PROJECT_SOURCE_DIR}/tests/precompiled.h" ${RIDGE_TESTS_PRECOMPILED_IN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  if(ARG_WHOLE)
    add_test(NAME ${name} COMMAND ${name})
    # Those that take longest begin first, or the last one would run alone.
    set_tests_properties(${name} PROPERTIES TIMEOUT ${ARG_TIMEOUT} COST ${ARG_TIMEOUT})
  else()
    # A value may be printed with its addresses, which differ in each run: names would not stay.
    gtest_discover_tests(${name} DISCOVERY_TIMEOUT 60 NO_PRETTY_VALUES PROPERTIES TIMEOUT ${ARG_TIMEOUT})
  endif()
endfunction()
