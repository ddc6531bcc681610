// HTTP transfers with libcurl: small texts, and large files that resume, retry and report.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "base/files.h"

namespace deepseek::models {

inline constexpr const char* kInterrupted = "interrupted; what was fetched is kept, the same command goes on";

struct Reply {
  long status = 0;
  std::string body;
  std::map<std::string, std::string> headers;  ///< of the first answer, before redirects; names in lower case
};

/// GET (or HEAD without following redirects). The token goes to the host of `url` only. Retries what may pass: 429, 5xx, lost connections.
[[nodiscard]] base::Result<Reply> fetch_text(const std::string& url, const std::string& token, bool head = false);

/// Fetches `url` into `file`, going on behind what it holds already. `size` 0: unknown.
/// Returns the HTTP status: below 400 the file is whole and flushed to the disk, else nothing was added to it.
/// Errors: a lost connection, a file longer or shorter than `size`, a full disk, "interrupted" where `progress` returns false.
[[nodiscard]] base::Result<long> fetch_file(const std::string& url, const std::string& token, const base::fs::path& file, uint64_t size,
                                            const std::function<bool(uint64_t)>& progress);

/// Hex digests of a file: SHA-256, or git's SHA-1 of a blob with this content.
[[nodiscard]] base::Result<std::string> sha256_of(const base::fs::path& file);
[[nodiscard]] base::Result<std::string> git_blob_sha1_of(const base::fs::path& file);

}  // namespace deepseek::models
