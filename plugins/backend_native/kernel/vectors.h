// Vectors as the compiler itself knows them, of as many lanes as a level has in one register (LANES, which divides
// PANEL). To be included inside the unnamed namespace of a level, so that no two levels share a function.

typedef float Floats __attribute__((vector_size(LANES * 4)));
typedef int32_t Ints __attribute__((vector_size(LANES * 4)));
typedef int8_t Numbers __attribute__((vector_size(LANES)));
typedef float LooseFloats __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef int8_t LooseNumbers __attribute__((vector_size(LANES), aligned(1), may_alias));
