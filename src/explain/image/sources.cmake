set(DEEPSEEK_EXPLAIN_IMAGE image/explain_image.cc image/image_file.cc image/image_game.cc image/image_model.cc image/region_tree.cc image/script_model.cc image/superpixels.cc)
if(DEEPSEEK_OPENCV_LIBRARIES)
  set_source_files_properties(image/image_file.cc image/image_model.cc PROPERTIES COMPILE_DEFINITIONS DEEPSEEK_HAVE_OPENCV)
endif()
