# cmake --install: headers, static libraries, the CMake package and deepseek-cli.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
get_property(_folders GLOBAL PROPERTY DEEPSEEK_FOLDERS)
set(_targets)
foreach(_folder ${_folders})
  if(NOT _folder STREQUAL "cli")
    list(APPEND _targets deepseek_${_folder})
    install(DIRECTORY ${PROJECT_SOURCE_DIR}/src/${_folder} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/deepseek FILES_MATCHING PATTERN "*.h")
  endif()
endforeach()
if(TARGET deepseek_openmp)
  list(APPEND _targets deepseek_openmp)
endif()
install(TARGETS ${_targets} deepseek_flags EXPORT deepseek-targets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(EXPORT deepseek-targets NAMESPACE deepseek:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/deepseek)
if(TARGET deepseek_ops)
  install(TARGETS deepseek_ops LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})  # torch.ops.load_library() opens it
endif()
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/deepseek-config.cmake.in ${CMAKE_BINARY_DIR}/deepseek-config.cmake
                              INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/deepseek)
write_basic_package_version_file(${CMAKE_BINARY_DIR}/deepseek-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/deepseek-config.cmake ${CMAKE_BINARY_DIR}/deepseek-config-version.cmake DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/deepseek)
if(TARGET deepseek-cli)
  # The program keeps finding the libtorch it was built with. Named, since INSTALL_RPATH_USE_LINK_PATH leaves out what lies in
  # the source tree, and .venv does.
  get_filename_component(_torch_library ${TORCH_LIBRARY} DIRECTORY)
  set_target_properties(deepseek-cli-full PROPERTIES INSTALL_RPATH ${_torch_library} INSTALL_RPATH_USE_LINK_PATH TRUE)
  install(TARGETS deepseek-cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  install(TARGETS deepseek-cli-full RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR}/../libexec)  # beside bin, where deepseek-cli looks for it
endif()
