# Options, default build type, compiler flags, launcher and linker.
option(DEEPSEEK_TESTS "Build the tests" ON)
option(DEEPSEEK_BENCH "Build the benchmarks" OFF)
option(DEEPSEEK_FUZZ "Build the fuzzers (clang only)" OFF)
option(DEEPSEEK_TORCH "Build everything that computes (needs libtorch)" ON)
option(DEEPSEEK_MPI "Data parallel training over MPI" ON)
option(DEEPSEEK_HUB "Download models (needs libcurl)" ON)
option(DEEPSEEK_YAML "Read groups of features from YAML (needs yaml-cpp)" ON)
option(DEEPSEEK_XGBOOST "Train boosted trees for explain (needs libxgboost)" ON)
option(DEEPSEEK_OPENCV "Explain ONNX models and images (needs OpenCV)" ON)
option(DEEPSEEK_WERROR "Warnings are errors" ON)
set(DEEPSEEK_SANITIZE "" CACHE STRING "Sanitizers, as -fsanitize takes them (address,undefined or thread)")

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -DNDEBUG")

find_program(DEEPSEEK_CCACHE ccache)
if(DEEPSEEK_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${DEEPSEEK_CCACHE})
endif()
find_program(DEEPSEEK_MOLD mold)
if(DEEPSEEK_MOLD)
  # mold 1.10 begins the read-only part of a program at its thread-local variables, which have no page of their own where code ends just before a
  # page does: such a program does not start ("cannot apply additional memory protection after relocation").
  add_link_options(-fuse-ld=mold -Wl,-z,norelro)
endif()

add_library(deepseek_flags INTERFACE)
# Options are structs with defaults: {.rank = 4} leaves the rest as it is on purpose.
target_compile_options(deepseek_flags INTERFACE $<BUILD_INTERFACE:-Wall> $<BUILD_INTERFACE:-Wextra>
                                                $<BUILD_INTERFACE:-Wno-missing-field-initializers>)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # GCC 12 finds overlaps inside std::string that are not there (GCC bug 105651).
  target_compile_options(deepseek_flags INTERFACE $<BUILD_INTERFACE:-Wno-restrict>)
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_GREATER_EQUAL 13)
  # GCC 13 finds copies in std::vector and fmt that leave their bounds and do not (GCC bugs 107852, 110498).
  target_compile_options(deepseek_flags INTERFACE $<BUILD_INTERFACE:-Wno-stringop-overflow> $<BUILD_INTERFACE:-Wno-array-bounds>)
endif()
if(DEEPSEEK_WERROR)
  target_compile_options(deepseek_flags INTERFACE $<BUILD_INTERFACE:-Werror>)
endif()
if(DEEPSEEK_SANITIZE)
  # -g1 has the lines that a report names; following variables through what a sanitizer inserts takes GCC minutes a file.
  add_compile_options(-fsanitize=${DEEPSEEK_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all -O1 -g1)
  add_compile_options(-Wno-maybe-uninitialized)  # GCC cannot follow values through what a sanitizer inserts
  add_link_options(-fsanitize=${DEEPSEEK_SANITIZE})
endif()
