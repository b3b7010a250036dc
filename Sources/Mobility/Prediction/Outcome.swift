/// A prediction in the predictor's own numbers; kept between predictions so that nothing is allocated.
struct Outcome {
    struct Step {
        var ap: Int32
        var probability: Float
        /// Median of the seconds.
        var median: Float
        /// Place among the candidates of the evidence.
        var candidate: Int32
    }

    struct Expected {
        var ap: Int32
        var weight: Float
    }

    var ap: Int32 = -1
    var previous: Int32 = -1
    /// The most probable first.
    var steps: [Step] = []
    /// One list per lead time asked for.
    var horizons: [[Expected]] = []
    var moving: Float = 1
    var flap = false
}
