/// What the predictor expects of a user at the moment of an association.
public struct Prediction: Sendable {
    /// An access point that may come next.
    public struct Step: Sendable, Hashable {
        /// Name of the access point.
        public var ap: String
        /// Probability that it is the next one, given that there is a next one; the steps' sum to at most 1.
        public var probability: Double
        /// Median of the seconds from the association until the hand-off to this access point, given that the user moves.
        public var eta: Double
        /// The 10th and the 90th percentile of the same.
        public var interval: ClosedRange<Double>
    }

    /// An access point whose host may be the right one a lead time ahead.
    public struct Expected: Sendable, Hashable {
        /// Name of the access point.
        public var ap: String
        /// Share of the hand-offs that this prediction is made for which are expected to go there.
        public var weight: Double
    }

    /// The user.
    public var user: String
    /// Where the user is.
    public var ap: String
    /// Where the user was before; that host keeps its copy; nil where not known.
    public var previous: String?
    /// The time of the association, on the time line of `RoamingRecord.absoluteTime`.
    public var time: Double
    /// Access points that may come next, the most probable first.
    public var next: [Step]
    /// Probability that the user goes on within three minutes.
    public var movingProbability: Double
    /// Whether the user came back within ten seconds of leaving (A-B-A): a hand-off should wait for a confirmed dwell.
    public var isFlap: Bool
    /// For each lead time asked for, in seconds, the access points by expected hand-offs.
    public var horizons: [(lead: Double, expected: [Expected])]

    /// Probability that the user stays for three minutes or longer.
    public var stationaryProbability: Double { 1 - movingProbability }

    /// The access points whose hosts should hold a replica when making one takes `lead` seconds: the best `count`
    /// beside the current and the previous host, which have their copies anyway.
    ///
    /// Uses the horizon asked for in `predict` that is nearest to `lead`.
    public func replicas(lead: Double, count: Int) -> [String] {
        let horizon = horizons.min { abs($0.lead - lead) < abs($1.lead - lead) }
        return horizon.map { $0.expected.prefix(count).map(\.ap) } ?? []
    }
}
