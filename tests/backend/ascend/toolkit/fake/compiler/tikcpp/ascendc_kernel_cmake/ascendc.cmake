# In place of CANN's file of this name: functions with the names and parameters of its documented interface, which write down what
# they were given and "compile" by putting the sources behind each other.
if(NOT DEFINED ASCEND_CANN_PACKAGE_PATH OR NOT DEFINED SOC_VERSION OR NOT DEFINED RUN_MODE)
  message(FATAL_ERROR "ASCEND_CANN_PACKAGE_PATH, SOC_VERSION and RUN_MODE have to be set before ascendc.cmake is included")
endif()

function(note name)
  list(JOIN ARGN "\n" lines)
  file(WRITE "${CMAKE_BINARY_DIR}/given/${name}" "${lines}")
endfunction()

function(ascendc_fatbin_library target)
  note(target "${target}")
  note(sources ${ARGN})
  note(soc "${SOC_VERSION}")
  note(build_type "${CMAKE_BUILD_TYPE}")
  get_directory_property(options COMPILE_OPTIONS)
  note(options ${options} "unity build: ${CMAKE_UNITY_BUILD}")
  set(folder "${CMAKE_INSTALL_PREFIX}/fatbin/${target}")
  file(MAKE_DIRECTORY "${folder}")
  add_custom_target(some_target_of_the_toolkit ALL COMMAND cat ${ARGN} > "${folder}/${target}.o" VERBATIM)
endfunction()

function(ascendc_include_directories target scope)
  note(include_directories "${target}" "${scope}" ${ARGN})
endfunction()

function(ascendc_compile_definitions target scope)
  note(compile_definitions "${target}" "${scope}" ${ARGN})
endfunction()
