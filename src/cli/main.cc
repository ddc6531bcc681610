#include "cli/command.h"

int main(int argc, char** argv) { return deepseek::cli::run(argc, argv); }
