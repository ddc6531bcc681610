# deepseek_page_bundle(SOURCE FOLDER): installs the npm packages that FOLDER/package-lock.json pins, once into the build directory, and sets
# DEEPSEEK_PAGE_TEMPLATE to the page that the build makes of FOLDER; empty, with one line that says why, where that cannot be had.
option(DEEPSEEK_PAGES "The page of an explanation (needs npm once, when this is configured)" ON)
set(DEEPSEEK_PAGE_TEMPLATE "")

# Installs into `folder` unless that was done for the same lock file; sets `error` in the caller where it fails.
function(_deepseek_page_packages source folder error)
  file(SHA256 ${source}/package-lock.json lock)
  if(EXISTS ${folder}/installed-${lock})
    return()
  endif()
  file(MAKE_DIRECTORY ${folder})
  foreach(name package.json package-lock.json .npmrc)
    file(COPY_FILE ${source}/${name} ${folder}/${name})
  endforeach()
  foreach(attempt 1 2)
    execute_process(COMMAND ${DEEPSEEK_NPM} ci --silent --ignore-scripts --fetch-retries=1 --fetch-timeout=60000 WORKING_DIRECTORY ${folder} TIMEOUT 300
                    RESULT_VARIABLE failed OUTPUT_QUIET ERROR_QUIET)
    if(NOT failed)
      file(TOUCH ${folder}/installed-${lock})
      return()
    endif()
  endforeach()
  set(${error} "npm cannot install what package-lock.json pins" PARENT_SCOPE)
endfunction()

function(deepseek_page_bundle source)
  if(NOT DEEPSEEK_PAGES)
    return()
  endif()
  find_program(DEEPSEEK_NPM npm)
  find_program(DEEPSEEK_NODE node)
  set(folder ${CMAKE_BINARY_DIR}/page)
  set(error "")
  if(NOT DEEPSEEK_NPM OR NOT DEEPSEEK_NODE)
    set(error "npm not found")
  else()
    _deepseek_page_packages(${source} ${folder} error)
  endif()
  if(error)
    message(STATUS "Pages of explanations: ${error}; explain writes text and JSON only")
    return()
  endif()
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${source}/package-lock.json)
  file(GLOB inputs CONFIGURE_DEPENDS ${source}/src/*.ts ${source}/page.* ${source}/*.mjs ${source}/tsconfig.json)
  # Beside its packages, where TypeScript and esbuild look for them.
  add_custom_command(OUTPUT ${folder}/page.out.html
                     COMMAND ${CMAKE_COMMAND} -E rm -rf ${folder}/src
                     COMMAND ${CMAKE_COMMAND} -E copy_directory ${source} ${folder}
                     COMMAND ${DEEPSEEK_NODE} node_modules/typescript/bin/tsc --noEmit
                     COMMAND ${DEEPSEEK_NODE} build.mjs page.out.html
                     WORKING_DIRECTORY ${folder} DEPENDS ${inputs} COMMENT "Bundling the page of an explanation" VERBATIM)
  set(DEEPSEEK_PAGE_TEMPLATE ${folder}/page.out.html PARENT_SCOPE)
endfunction()
