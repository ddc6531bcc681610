set(DEEPSEEK_EXPLAIN_TRAINING training/boosted_trees.cc training/column_notes.cc training/held_out.cc training/net.cc training/net_file.cc training/net_training.cc training/train_table.cc training/trained_file.cc
                              training/training_data.cc)
if(DEEPSEEK_XGBOOST_LIBRARIES)
  set_source_files_properties(training/boosted_trees.cc PROPERTIES COMPILE_DEFINITIONS DEEPSEEK_HAVE_XGBOOST)
endif()
