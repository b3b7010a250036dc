/// Learns from roaming records where users go next, and says so.
///
/// Not safe for use from several threads at once: keep it in one actor.
public final class Predictor {
    /// Bounds and rates; none of them depends on a network.
    public struct Configuration: Sendable, Hashable {
        /// Associations remembered per user.
        public var historyLimit = 420
        /// Passes remembered per access point.
        public var passLimit = 256
        /// Users remembered; the one seen least recently is forgotten first.
        public var userLimit = 1_000_000
        /// Predictions that may wait for their outcome, over all users.
        public var pendingLimit = 1024

        /// The bounds used throughout.
        public init() {}
    }

    let configuration: Configuration
    var index: AccessPointIndex
    var users: [UserState] = []
    var userNumbers: [String: Int] = [:]
    var memory: PassMemory
    package var network: ScoringNetwork
    package var dwellNetwork: ScoringNetwork
    package var horizonNetwork: ScoringNetwork
    package var geometry: GeometryOdds
    var horizonVotes = HorizonVotes()
    var sample = Sample()
    var pool: [Sample]
    var poolNext = 0
    var serial: UInt32 = 0
    var slotOf: [Int16] = []
    var pop: [SIMD8<Float>] = Array(repeating: .zero, count: Sample.candidateLimit)
    var own: [SIMD8<Float>] = Array(repeating: .zero, count: Sample.candidateLimit)
    /// Weight and weighted sum of the logarithm of the seconds, per candidate, from everybody's and the user's passes.
    var popDwell: [SIMD2<Float>] = Array(repeating: .zero, count: Sample.candidateLimit)
    var ownDwell: [SIMD2<Float>] = Array(repeating: .zero, count: Sample.candidateLimit)
    var popDwellTotal: SIMD2<Float> = .zero
    var ownDwellTotal: SIMD2<Float> = .zero
    /// The passes and the places of the history that gave evidence, with their weights.
    var votes: [(place: Int32, weight: Float, exact: Float)] = []
    var ownVotes: [(place: Int32, weight: Float)] = []
    /// The prediction last prepared.
    var outcome = Outcome()
    package var trained = 0
    package var missing = 0

    /// A predictor that knows the map and nothing else.
    public init(map: APMap, configuration: Configuration = .init()) {
        self.configuration = configuration
        index = AccessPointIndex(map)
        memory = PassMemory(capacity: configuration.passLimit)
        memory.reserve(index.count)
        slotOf = Array(repeating: -1, count: index.count)
        network = ScoringNetwork(own: Sample.ownCount, shared: Sample.sharedCount, outputs: 1, rate: 0.00005, seed: 1)
        for (feature, weight) in [(0, 0.1), (1, 0.2), (2, 0.2), (4, 0.2), (6, 0.1), (7, 0.2), (9, 0.1), (11, 0.1)] {
            network.setDirect(0, feature, Float(weight))
        }
        dwellNetwork = ScoringNetwork(own: Sample.dwellCount, shared: 0, outputs: 3, rate: 0.0001, seed: 2)
        for row in 0..<3 {
            dwellNetwork.setDirect(row, 0, 0.5)
            dwellNetwork.setDirect(row, 2, 0.3)
            dwellNetwork.setDirect(row, Sample.dwellCount, row == 1 ? -0.7 : row == 2 ? 0.7 : 0)
        }
        horizonNetwork = ScoringNetwork(
            own: HorizonEvidence.ownCount,
            shared: HorizonEvidence.sharedCount,
            outputs: 1,
            rate: 0.0001,
            seed: 3
        )
        for (feature, weight) in [(0, 0.3), (1, 0.2), (2, 0.3), (5, 0.3)] {
            horizonNetwork.setDirect(0, feature, Float(weight))
        }
        geometry = GeometryOdds()
        pool = Array(repeating: Sample(), count: configuration.pendingLimit)
    }

    func userNumber(_ name: String) -> Int {
        if let known = userNumbers[name] { return known }
        userNumbers[name] = users.count
        users.append(UserState())
        return users.count - 1
    }

    func apNumber(_ name: String) -> Int32 {
        let number = index.number(of: name)
        memory.reserve(index.count)
        while slotOf.count < index.count { slotOf.append(-1) }
        return number
    }

    /// Predicts where the user of an association goes next, from what was learned before it.
    ///
    /// Give the record to `learn` afterwards; a stop is answered as the association that it ends.
    public func predict(_ record: RoamingRecord, leads: [Double] = [5]) -> Prediction {
        prepare(record, leads: leads)
        func name(_ ap: Int32) -> String { index.names[Int(ap)] }
        return Prediction(
            user: record.user,
            ap: record.ap,
            previous: outcome.previous < 0 ? nil : name(outcome.previous),
            time: record.absoluteTime,
            next: outcome.steps.map { step in
                Prediction.Step(
                    ap: name(step.ap),
                    probability: Double(step.probability),
                    eta: Double(step.median),
                    interval: Double(step.low)...Double(step.high)
                )
            },
            movingProbability: Double(outcome.moving),
            isFlap: outcome.flap,
            horizons: zip(leads, outcome.horizons).map { lead, list in
                (lead, list.map { Prediction.Expected(ap: name($0.ap), weight: Double($0.weight)) })
            }
        )
    }

    /// Leaves the prediction in `outcome` and its evidence in the pool of those that wait for their outcome.
    func prepare(_ record: RoamingRecord, leads: [Double]) {
        let user = userNumber(record.user)
        let ap = apNumber(record.ap)
        let track = makeTrack(users[user], ap, record)
        gather(users[user], track)
        score()
        rank(track)
        anticipate(users[user], track, leads)
        let place = poolNext
        poolNext = (poolNext + 1) % pool.count
        serial &+= 1
        sample.serial = serial
        swap(&pool[place], &sample)
        users[user].staged = PassHandle(place: Int32(place), serial: serial)
    }

    /// Scores the candidates of `sample` and makes probabilities of the scores.
    func score() {
        network.setShared(sample.shared, at: 0)
        var top = -Float.infinity
        let count = sample.candidates.count
        for c in 0..<count {
            let score = network.score(sample.own, at: c * Sample.ownCount)
            sample.probability[c] = score
            top = max(top, score)
        }
        var sum: Float = 0
        for c in 0..<count {
            let e = FastMath.exp(sample.probability[c] - top)
            sample.probability[c] = e
            sum += e
        }
        for c in 0..<count { sample.probability[c] /= sum }
    }

    /// Puts the candidates in order and estimates when.
    private func rank(_ track: Track) {
        outcome.ap = track.visits[0].ap
        outcome.previous = track.previous(1)
        outcome.flap = track.used > 2 && track.visits[2].ap == track.visits[0].ap
            && track.visits[0].time - track.visits[1].time <= 10
        outcome.steps.removeAll(keepingCapacity: true)
        for c in sample.candidates.indices {
            outcome.steps.append(
                Outcome.Step(
                    ap: sample.candidates[c],
                    probability: sample.probability[c],
                    median: Float(c),
                    low: 0,
                    high: 0
                )
            )
        }
        outcome.steps.sort { ($0.probability, $1.ap) > ($1.probability, $0.ap) }
        dwellNetwork.setShared([], at: 0)
        for place in outcome.steps.indices {
            let c = Int(outcome.steps[place].median)
            let base = c * Sample.dwellCount
            describeDwell(track, c)
            let median = dwellNetwork.score(sample.dwell, at: base, output: 0)
            outcome.steps[place].median = FastMath.exp(median)
            if place < 8 {
                let low = dwellNetwork.score(sample.dwell, at: base, output: 1)
                let high = dwellNetwork.score(sample.dwell, at: base, output: 2)
                outcome.steps[place].low = FastMath.exp(min(low, median))
                outcome.steps[place].high = FastMath.exp(max(high, median))
            }
        }
    }

    /// Learns what an association tells; call `predict` with it before.
    public func learn(_ record: RoamingRecord) {
        let user = userNumber(record.user)
        let time = record.absoluteTime
        guard record.kind.isAssociation else {
            users[user].stopped = true
            users[user].lastTime = time
            return
        }
        let ap = apNumber(record.ap)
        let fresh = record.kind == .start && time - users[user].lastTime > 30 || users[user].recentUsed == 0
        if !fresh, users[user].recent[0].ap == ap {
            users[user].lastTime = time
            return
        }
        if !fresh {
            train(users[user], to: ap, dwell: Float(time - users[user].recent[0].time))
            trainHorizons(users[user], to: ap, time: time)
            complete(user, to: ap, time: time)
        }
        push(user, ap, record, fresh: fresh)
    }

    /// Place in the pool of a prediction that still waits.
    func waiting(_ handle: PassHandle) -> Int? {
        guard handle.place >= 0, pool[Int(handle.place)].serial == handle.serial else { return nil }
        return Int(handle.place)
    }

    private func train(_ state: UserState, to ap: Int32, dwell: Float) {
        guard let place = waiting(state.pending[0]) else { return }
        guard let hit = pool[place].candidates.firstIndex(of: ap) else {
            missing += 1
            return
        }
        trained += 1
        swap(&pool[place], &sample)
        defer { swap(&pool[place], &sample) }
        score()
        let weight: Float = dwell < 180 ? 1 : 0.3
        for c in sample.candidates.indices {
            let slope = (sample.probability[c] - (c == hit ? 1 : 0)) * weight
            if abs(slope) > 1e-3 { network.accumulate(sample.own, at: c * Sample.ownCount, slope: slope) }
        }
        network.update(sample.shared, sharedAt: 0)
        geometry.learn(sample, hit)
        if dwell < 180 { trainDwell(hit, FastMath.log(max(dwell, 0.5))) }
    }

    /// Pinball loss of the logarithm of the seconds.
    private func trainDwell(_ hit: Int, _ truth: Float) {
        let base = hit * Sample.dwellCount
        dwellNetwork.setShared([], at: 0)
        for (row, quantile) in [Float(0.5), 0.1, 0.9].enumerated() {
            let value = dwellNetwork.score(sample.dwell, at: base, output: row)
            let slope = value > truth ? 1 - quantile : -quantile
            dwellNetwork.accumulate(sample.dwell, at: base, slope: slope, output: row)
        }
        dwellNetwork.update([], sharedAt: 0)
    }

    /// Tells the passes that this user is on where the user went.
    private func complete(_ user: Int, to ap: Int32, time: Double) {
        let state = users[user]
        for step in 1..<Pass.depth where step < state.recentUsed {
            memory.extend(
                state.passes[step],
                at: state.recent[step].ap,
                step: step,
                to: ap,
                after: Float(time - state.recent[step].time)
            )
        }
        let track = makeTrack(past: state)
        var pass = Pass()
        pass.previous = [track.previous(1), track.previous(2), track.previous(3), -1]
        pass.following[0] = ap
        let seconds = Float(time - state.recent[0].time)
        pass.reached[0] = Pass.tenths(seconds)
        pass.logDwell = FastMath.log(max(seconds, 0.5))
        pass.approach = track.approach
        pass.logPace = track.paceKnown ? track.logPace : .nan
        pass.rssi = state.recent[0].rssi
        users[user].passes[0] = memory.add(pass, at: state.recent[0].ap)
    }

    private func push(_ user: Int, _ ap: Int32, _ record: RoamingRecord, fresh: Bool) {
        let time = record.absoluteTime
        if !fresh, let last = users[user].history.last {
            let old = PackedVisit(bits: last)
            let dwell = FastMath.log(Float(max(time - users[user].recent[0].time, 0.5)))
            let known = PackedVisit(ap: old.ap, logDwell: dwell, slot: old.slot, starts: old.starts)
            users[user].history[users[user].history.count - 1] = known.bits
        }
        if users[user].history.count >= configuration.historyLimit {
            users[user].history.removeFirst(configuration.historyLimit / 8)
        }
        users[user].history.append(PackedVisit(ap: ap, logDwell: -1, slot: Self.slot(time), starts: fresh).bits)
        if fresh { users[user].recentUsed = 0 }
        var place = min(users[user].recentUsed, UserState.recentCount - 1)
        users[user].recentUsed = place + 1
        while place > 0 {
            users[user].recent[place] = users[user].recent[place - 1]
            users[user].passes[place] = users[user].passes[place - 1]
            users[user].pending[place] = users[user].pending[place - 1]
            place -= 1
        }
        users[user].recent[0] = Visit(ap: ap, rssi: Float(record.rssi ?? 0), time: time)
        users[user].passes[0] = PassHandle()
        users[user].pending[0] = users[user].staged
        users[user].staged = PassHandle()
        users[user].stopped = false
        users[user].lastTime = time
    }

    /// The time of day in 1/32 days.
    static func slot(_ time: Double) -> UInt32 {
        let inDay = time - (time / 86_400).rounded(.down) * 86_400
        return UInt32(inDay / 2_700) & 31
    }
}
