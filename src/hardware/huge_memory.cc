#include "hardware/huge_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <new>

namespace deepseek::hardware {

void FreeMemory::operator()(std::byte* memory) const { std::free(memory); }

HugeMemory allocate_huge(size_t size) {
  constexpr size_t kHugePage = size_t{2} << 20, kAlignment = 64;
  const size_t alignment = size >= kHugePage ? kHugePage : kAlignment, whole = (std::max<size_t>(size, 1) + alignment - 1) / alignment * alignment;
  HugeMemory memory(static_cast<std::byte*>(std::aligned_alloc(alignment, whole)));
  if (memory == nullptr) throw std::bad_alloc();
  if (alignment == kHugePage) ::madvise(memory.get(), whole, MADV_HUGEPAGE);  // a wish only
  return memory;
}

}  // namespace deepseek::hardware
