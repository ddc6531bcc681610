// Byte-pair encoding, by a list of merges or by scores.
#pragma once

#include "formats/tokenizer/token_model.h"

namespace deepseek::formats {

[[nodiscard]] base::Result<std::unique_ptr<TokenModel>> make_bpe(const Json& json, Vocabulary vocabulary);
/// "<0x0A>".
[[nodiscard]] std::string byte_token(unsigned char byte);

}  // namespace deepseek::formats
