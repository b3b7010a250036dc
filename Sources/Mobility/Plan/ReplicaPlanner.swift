/// Makes replica plans from predictions, one user at a time, and remembers what it needs for hysteresis.
public struct ReplicaPlanner: Sendable {
    /// Bounds of a plan.
    public struct Configuration: Sendable, Hashable {
        /// Replicas per SMI, the previous host's not counted.
        public var replicas = 3
        /// Expected hand-offs below this share get no replica.
        public var leastShare = 0.03
        /// Above this probability of staying nothing is streamed.
        public var stationaryThreshold = 0.8
        /// Seconds for which a replica that was wanted is kept when it is wanted no more.
        public var keepFor = 30.0
        /// Seconds of dwell that confirm that a flap is over.
        public var confirmAfter = 3.0
        /// Live rounds start this many times the replication time before the earliest (10th percentile) hand-off.
        public var safety = 1.5

        /// The bounds used throughout.
        public init() {}
    }

    /// Bounds.
    public var configuration: Configuration
    /// By user and host: until when a replica is kept.
    private var keepUntil: [String: [String: Double]] = [:]

    /// Makes a planner.
    public init(configuration: Configuration = .init()) { self.configuration = configuration }

    /// Forgets a user.
    public mutating func forget(_ user: String) { keepUntil[user] = nil }

    private struct Wish {
        var host: String
        var aps: [String]
        var share: Double
        /// Seconds until the earliest and the median hand-off.
        var earliest: Double
        var eta: Double
    }

    /// Plans the replicas of one SMI at an association.
    public mutating func plan(_ prediction: Prediction, map: APMap, input: ReplicaPlanInput) -> ReplicaPlan {
        let stays = prediction.stationaryProbability
        var plan = ReplicaPlan(
            user: prediction.user,
            ap: prediction.ap,
            time: prediction.time,
            holdHandoff: prediction.isFlap,
            confirmAfter: configuration.confirmAfter,
            stationaryProbability: stays,
            entries: [],
            passed: []
        )
        let wishes = wishes(prediction, map, input)
        if stays > configuration.stationaryThreshold {
            plan.passed = wishes.map { .init(host: $0.host, reason: .userStays(probability: stays)) }
        } else {
            choose(wishes, &plan, input)
        }
        keep(&plan, input, stays: stays)
        return plan
    }

    /// Expected hand-offs by host, the likeliest first.
    private func wishes(_ prediction: Prediction, _ map: APMap, _ input: ReplicaPlanInput) -> [Wish] {
        let slowest = prediction.next.prefix(3).map { input.secondsToReplicate(to: map.host(of: $0.ap)) }.max() ?? 5
        let horizon = prediction.horizons.min { abs($0.lead - slowest) < abs($1.lead - slowest) }
        var wishes: [Wish] = []
        for expected in horizon?.expected ?? [] {
            let host = map.host(of: expected.ap)
            if host == input.owner { continue }
            let step = prediction.next.first { $0.ap == expected.ap }
            let eta = step?.eta ?? (horizon?.lead ?? 5) + (prediction.next.first?.eta ?? 0)
            let earliest = step?.interval.lowerBound ?? prediction.next.first?.interval.lowerBound ?? 0
            if let place = wishes.firstIndex(where: { $0.host == host }) {
                wishes[place].aps.append(expected.ap)
                wishes[place].share += expected.weight
                wishes[place].earliest = min(wishes[place].earliest, earliest)
                wishes[place].eta = min(wishes[place].eta, eta)
            } else {
                wishes.append(
                    Wish(host: host, aps: [expected.ap], share: expected.weight, earliest: earliest, eta: eta)
                )
            }
        }
        return wishes.sorted { ($0.share, $1.host) > ($1.share, $0.host) }
    }

    /// Gives replicas to the likeliest hosts until a budget is used up.
    private func choose(_ wishes: [Wish], _ plan: inout ReplicaPlan, _ input: ReplicaPlanInput) {
        var link = input.linkBytesPerSecond
        for wish in wishes {
            let host = input.host(wish.host)
            let missing = host.behindBytes == nil ? input.bytes : 0
            if wish.share < configuration.leastShare {
                plan.passed.append(.init(host: wish.host, reason: .unlikely(share: wish.share)))
            } else if plan.entries.count >= configuration.replicas {
                plan.passed.append(.init(host: wish.host, reason: .replicaLimit(share: wish.share)))
            } else if let free = host.freeBytes, free < missing {
                plan.passed.append(.init(host: wish.host, reason: .noRoom(bytes: missing - free)))
            } else if link < input.dirtyBytesPerSecond || link <= 0 {
                plan.passed.append(.init(host: wish.host, reason: .linkBudget(share: wish.share)))
            } else {
                // A live replica costs what the SMI dirties, for as long as it is live.
                link -= min(input.dirtyBytesPerSecond, link)
                let seconds = input.secondsToReplicate(to: wish.host)
                let start = max(wish.earliest - seconds * configuration.safety, 0)
                plan.entries.append(
                    .init(
                        host: wish.host,
                        aps: wish.aps,
                        freshness: .live,
                        startLiveIn: start.isFinite ? start : 0,
                        neededIn: wish.earliest,
                        replicationSeconds: seconds.isFinite ? seconds : nil,
                        reasons: [.expected(share: wish.share, seconds: wish.eta)]
                    )
                )
            }
        }
    }

    /// Keeps the previous host's copy, and what was wanted lately.
    private mutating func keep(_ plan: inout ReplicaPlan, _ input: ReplicaPlanInput, stays: Double) {
        let now = plan.time
        var memory = keepUntil[plan.user] ?? [:]
        for entry in plan.entries { memory[entry.host] = now + configuration.keepFor }
        memory = memory.filter { $0.value > now && $0.key != input.owner }
        if let previous = input.previousOwner, previous != input.owner {
            if let place = plan.entries.firstIndex(where: { $0.host == previous }) {
                plan.entries[place].reasons.append(.previousHost)
            } else {
                plan.entries.append(
                    .init(
                        host: previous,
                        aps: [],
                        freshness: stays > configuration.stationaryThreshold ? .kept : .base,
                        startLiveIn: nil,
                        reasons: [.previousHost]
                    )
                )
            }
        }
        for (host, until) in memory.sorted(by: { $0.key < $1.key })
        where !plan.entries.contains(where: { $0.host == host }) {
            plan.entries.append(
                .init(
                    host: host,
                    aps: [],
                    freshness: .kept,
                    startLiveIn: nil,
                    reasons: [.keptAgainstFlaps(seconds: until - now)]
                )
            )
        }
        plan.passed.removeAll { passed in plan.entries.contains { $0.host == passed.host } }
        keepUntil[plan.user] = memory.isEmpty ? nil : memory
    }
}

extension ReplicaPlan.Reason: CustomStringConvertible {
    /// The reason as `smirun inspect` shows it.
    public var description: String {
        func percent(_ share: Double) -> String { "\(EvaluationReport.decimals(share * 100, 0)) %" }
        func seconds(_ value: Double) -> String { "\(EvaluationReport.decimals(value, 1)) s" }
        return switch self {
        case .runsHere: "runs here"
        case .previousHost: "the user was there last"
        case .expected(let share, let eta): "\(percent(share)) of hand-offs expected there, in about \(seconds(eta))"
        case .keptAgainstFlaps(let left): "wanted lately, kept for \(seconds(left)) more"
        case .userStays(let probability): "the user stays (\(percent(probability)))"
        case .unlikely(let share): "only \(percent(share)) of hand-offs expected there"
        case .linkBudget(let share): "\(percent(share)) expected there, but likelier hosts use the whole link"
        case .noRoom(let bytes): "\(bytes) bytes too little room"
        case .replicaLimit(let share): "\(percent(share)) expected there, but likelier hosts have the replicas allowed"
        }
    }
}
