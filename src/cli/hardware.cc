// hardware: what this machine is and can do.
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "hardware/machine.h"

namespace deepseek::cli {

Command hardware_command() {
  return {{"hardware", "describe this machine", "deepseek-cli hardware --measure"}, [](CLI::App& app, const Context& context) {
            auto measure = std::make_shared<bool>(false);
            app.add_flag("--measure", *measure, "measure the memory's bandwidth too (a second)");
            return std::function<base::Status()>([measure, &context]() -> base::Status {
              const auto machine = hardware::describe_machine({.measure = *measure});
              std::string text = context.json ? hardware::to_json(machine).dump() : hardware::to_text(machine);
              if (!text.ends_with('\n')) text += '\n';
              context.print(text);
              return {};
            });
          }};
}

}  // namespace deepseek::cli
