include(VegaAssets)
set(_report report/charts.cc report/page.cc report/report.cc report/run_record.cc report/vega.cc)
list(APPEND DEEPSEEK_TRAIN_SOURCES ${_report})
if(DEEPSEEK_VEGA_SCRIPT)
  set_source_files_properties(report/vega.cc PROPERTIES OBJECT_DEPENDS ${DEEPSEEK_VEGA_SCRIPT}
                              COMPILE_DEFINITIONS "DEEPSEEK_VEGA_SCRIPT=\"${DEEPSEEK_VEGA_SCRIPT}\"")
endif()
# The report needs no tensors: without libtorch its test is built from its sources alone.
if(DEEPSEEK_TESTS AND NOT DEEPSEEK_TORCH)
  add_executable(train_report_test report/report_test.cc ${_report})
  target_link_libraries(train_report_test PRIVATE deepseek_base deepseek_flags GTest::gtest_main GTest::gmock)
  target_compile_definitions(train_report_test PRIVATE DEEPSEEK_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  add_test(NAME train_report_test COMMAND train_report_test)
endif()
