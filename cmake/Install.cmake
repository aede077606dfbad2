# `cmake --install`: the program, its shell completions, its systemd unit and the notes for operators.
install(TARGETS ridge RUNTIME DESTINATION bin)
install(FILES "${PROJECT_SOURCE_DIR}/deploy/README.md" DESTINATION share/doc/ridgeline RENAME deploy.md)

# Made while installing, because the prefix may be given only then (`cmake --install --prefix`).
install(CODE "
  configure_file(\"${PROJECT_SOURCE_DIR}/deploy/ridge.service.in\" \"${PROJECT_BINARY_DIR}/deploy/ridge.service\" @ONLY)
  file(INSTALL \"${PROJECT_BINARY_DIR}/deploy/ridge.service\"
    DESTINATION \"\${CMAKE_INSTALL_PREFIX}/lib/systemd/system\")
")

# The program itself knows its options, so it writes the completions.
function(ridge_install_completion shell folder file)
  install(CODE "
    set(made \"${PROJECT_BINARY_DIR}/deploy/${shell}/${file}\")
    file(MAKE_DIRECTORY \"${PROJECT_BINARY_DIR}/deploy/${shell}\")
    execute_process(COMMAND \"$<TARGET_FILE:ridge>\" completion ${shell}
      OUTPUT_FILE \"\${made}\" RESULT_VARIABLE failed)
    if(failed)
      message(FATAL_ERROR \"ridge completion ${shell} failed: \${failed}\")
    endif()
    file(INSTALL \"\${made}\" DESTINATION \"\${CMAKE_INSTALL_PREFIX}/${folder}\")
  ")
endfunction()
ridge_install_completion(bash share/bash-completion/completions ridge)
ridge_install_completion(zsh share/zsh/site-functions _ridge)
ridge_install_completion(fish share/fish/vendor_completions.d ridge.fish)
