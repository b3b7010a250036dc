/// Evidence for each candidate of one prediction, and what all candidates share.
///
/// Kept from the prediction until the user goes on, to learn from the outcome.
struct Sample {
    static let candidateLimit = 32
    static let ownCount = 23
    static let sharedCount = 20
    static let dwellCount = 20

    var candidates: [Int32] = []
    var own: [Float] = Array(repeating: 0, count: candidateLimit * ownCount)
    var shared: [Float] = Array(repeating: 0, count: sharedCount)
    var probability: [Float] = Array(repeating: 0, count: candidateLimit)
    /// Evidence for the time of each candidate.
    var dwell: [Float] = Array(repeating: 0, count: candidateLimit * dwellCount)
    /// Evidence for each lead time asked for.
    var horizons: [HorizonEvidence] = []
    /// Row of `GeometryOdds` of each candidate.
    var bucket: [Int32] = Array(repeating: 0, count: candidateLimit)
    var serial: UInt32 = 0

    init() { candidates.reserveCapacity(Self.candidateLimit) }
}

/// What the evidence is gathered from: the association in question and the ones before it.
struct Track {
    /// Newest first; `visits[0]` is the association in question.
    var visits: InlineArray<6, Visit> = .init(repeating: Visit())
    var used = 0
    /// Local spacing, metres.
    var spacing: Float = 60
    var placed = false
    /// Position of the current access point, metres.
    var here: SIMD2<Float> = .zero
    /// Unit vectors: from the previous access point to this one, and over the last few.
    var shortHeading: SIMD2<Float> = .zero
    var longHeading: SIMD2<Float> = .zero
    var approach: SIMD2<Float> = .zero
    /// Logarithm of the seconds per access point spacing lately; `paceKnown` false where there is none.
    var logPace: Float = 0
    var paceKnown = false
    var lastLogDwell: Float = 0
    var slot: UInt32 = 0

    func previous(_ step: Int) -> Int32 { step < used ? visits[step].ap : -1 }
}
