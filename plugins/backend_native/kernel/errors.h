// What the C interface returns; `library.py` has the sentences.
#pragma once

namespace native {

enum Error { OK, BAD_SHAPE, BAD_ARRAYS, NO_LEVEL, NO_MEMORY, BAD_CALL, NO_THREADS };

}  // namespace native
