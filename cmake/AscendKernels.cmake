# Compiles the Ascend kernels by CANN's toolkit (src/backend/ascend/toolkit) into ridge_ascend_kernels.o beside ridge, where
# it looks for them, and installs them. The toolkit is configured at once, so that what is missing is told now.
set(RIDGE_COMPILE_ASCEND AUTO CACHE STRING
  "Compile the kernels of --device ascend by CANN's toolkit: ON, OFF, or AUTO: where ASCEND_HOME_PATH is set")
if(DEFINED ENV{ASCEND_HOME_PATH})
  # Remembered: a build that configures again may run where nobody has sourced set_env.sh.
  set(RIDGE_ASCEND_TOOLKIT "$ENV{ASCEND_HOME_PATH}" CACHE INTERNAL "")
endif()
if(NOT RIDGE_COMPILE_ASCEND OR (RIDGE_COMPILE_ASCEND STREQUAL "AUTO" AND NOT RIDGE_ASCEND_TOOLKIT))
  return()
endif()
set(RIDGE_ASCEND_SOC "$ENV{SOC_VERSION}" CACHE STRING
  "The chip that Ascend kernels are compiled for: Ascend and the name that npu-smi shows; empty for Ascend910B2")
set(soc "${RIDGE_ASCEND_SOC}")
if(NOT soc)
  set(soc Ascend910B2)
endif()
message(STATUS "Ascend kernels: for ${soc} (RIDGE_ASCEND_SOC), by the toolkit in ${RIDGE_ASCEND_TOOLKIT}")

set(folder "${PROJECT_BINARY_DIR}/ascend")
execute_process(
  COMMAND "${CMAKE_COMMAND}" -S "${CMAKE_CURRENT_LIST_DIR}/../src/backend/ascend/toolkit" -B "${folder}"
    -G "${CMAKE_GENERATOR}" "-DASCEND_CANN_PACKAGE_PATH=${RIDGE_ASCEND_TOOLKIT}" "-DSOC_VERSION=${soc}"
  RESULT_VARIABLE failed)
if(failed)
  message(FATAL_ERROR "The Ascend kernels cannot be compiled: the reason stands above. Without them, configure "
    "with -DRIDGE_COMPILE_ASCEND=OFF.")
endif()

set(kernels "${PROJECT_BINARY_DIR}/ridge_ascend_kernels.o")
add_custom_target(ridge_ascend_device_kernels ALL
  COMMAND "${CMAKE_COMMAND}" --build "${folder}"
  COMMAND "${CMAKE_COMMAND}" -E copy_if_different
    "${folder}/fatbin/ridge_ascend_kernels/ridge_ascend_kernels.o" "${kernels}"
  BYPRODUCTS "${kernels}"
  COMMENT "Ascend kernels by CANN's toolkit"
  VERBATIM)
add_dependencies(ridge ridge_ascend_device_kernels)
install(FILES "${kernels}" DESTINATION lib/ridge)
