// What rows look at each other in, where a level has nothing narrower: floats. See `look_rows.h`.

constexpr int STEP = 1;
typedef float Unit;
typedef Floats Units;

inline Units load_units(const Unit* from) { return load(from); }
inline Floats add_products(Floats sum, Units a, const Unit* b) { return multiply_add(a, all(*b), sum); }
inline void pack(Floats values, Unit* to) { store(to, values); }

inline void pack_across(const float* first, const float*, Unit* to) {
    for (int i = 0; i < PANEL; i += LANES) store(to + i, load(first + i));
}
