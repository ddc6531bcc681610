include(PageBundle)
deepseek_page_bundle(${CMAKE_CURRENT_SOURCE_DIR}/page)
set(DEEPSEEK_PAGE_TEMPLATE "${DEEPSEEK_PAGE_TEMPLATE}" CACHE INTERNAL "the page that is bundled, empty: none")
set(DEEPSEEK_EXPLAIN_REPORT report/direction.cc report/document.cc report/method.cc report/page.cc report/page_data.cc report/story.cc report/text_report.cc report/words.cc report/write_document.cc)
if(DEEPSEEK_PAGE_TEMPLATE)
  set_source_files_properties(report/page.cc PROPERTIES OBJECT_DEPENDS ${DEEPSEEK_PAGE_TEMPLATE} COMPILE_DEFINITIONS "DEEPSEEK_PAGE_TEMPLATE=\"${DEEPSEEK_PAGE_TEMPLATE}\"")
  # So that the page is also made where nothing compiles page.cc yet.
  add_custom_target(explain_page DEPENDS ${DEEPSEEK_PAGE_TEMPLATE})
endif()
