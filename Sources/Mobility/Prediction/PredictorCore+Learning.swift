extension PredictorCore {
    /// Learns what a record tells.
    mutating func learn(_ record: RoamingRecord) {
        let user = userNumber(record.user)
        let time = record.absoluteTime
        guard record.kind.isAssociation else {
            users[user].lastTime = time
            return
        }
        let ap = apNumber(record.ap)
        let fresh = users[user].isFresh(record)
        if !fresh, users[user].recent[0].ap == ap {
            users[user].lastTime = time
            return
        }
        if fresh {
            if users[user].recentUsed > 0 { trainStay(user, stayed: true) }
        } else {
            let dwell = Float(time - users[user].recent[0].time)
            train(user, to: ap, dwell: dwell)
            trainHorizons(user, to: ap, time: time)
            complete(user, to: ap, time: time)
        }
        push(user, ap, record, fresh: fresh)
    }

    private mutating func train(_ user: Int, to ap: Int32, dwell: Float) {
        trainStay(user, stayed: dwell >= 180)
        guard let place = pool.waiting(users[user].pending[0]) else { return }
        let count = pool.headers[place].count
        let numbers = pool.numbers(place)
        var hit = -1
        for c in 0..<count where numbers[SampleLayout.candidates + c] == ap { hit = c }
        let said = pool.headers[place].said
        if dwell < 180, said > 0 { calibration.learn(said, cameTrue: hit == pool.headers[place].first) }
        guard hit >= 0 else {
            missing += 1
            return
        }
        trained += 1
        let values = pool.values(place)
        if dwell < 180 { calibrate(values, count, hit) }
        models.next.learn(
            values + SampleLayout.own,
            count,
            shared: values + SampleLayout.shared,
            hit: hit,
            weight: dwell < 180 ? 1 : 0.3,
            scratch: scratch.probability
        )
        geometry.learn(numbers + SampleLayout.buckets, count, hit)
        if dwell < 180 {
            models.dwell.learnQuantiles(
                values + SampleLayout.dwell + hit * SampleLayout.dwellCount,
                shared: values,
                truth: FastMath.log(max(dwell, 0.5)),
                Self.quantiles
            )
        }
    }

    /// A step down the gradient of -log softmax by `sharpness` alone.
    private mutating func calibrate(_ values: UnsafeMutablePointer<Float>, _ count: Int, _ hit: Int) {
        let scores = scratch.logs
        let probability = scratch.probability
        models.next.score(values + SampleLayout.own, count, shared: values + SampleLayout.shared, into: scores)
        for c in 0..<count { probability[c] = scores[c] * sharpness }
        ScoringNetwork.softmax(probability, count)
        var mean: Float = 0
        for c in 0..<count { mean += probability[c] * scores[c] }
        let slope = min(max(mean - scores[hit], -3), 3)
        sharpness = min(max(sharpness - slope * Self.calibrationRate, 0.4), 2.5)
    }

    private static let calibrationRate: Float = 0.001
    private static let quantiles: [Float] = [0.5, 0.1, 0.9]

    private func trainStay(_ user: Int, stayed: Bool) {
        let evidence = users[user].stay
        if evidence[0].isNaN { return }
        for f in 0..<SampleLayout.stayCount { scratch.logs[f] = evidence[f] }
        models.stay.learnEvent(scratch.logs, shared: scratch.logs, happened: stayed)
    }

    /// Learns from a hand-off which replicas the decision a lead time before should have made.
    private func trainHorizons(_ user: Int, to ap: Int32, time: Double) {
        let state = users[user]
        guard time - state.recent[0].time < 180 else { return }
        // The host before the current one keeps its copy: no replica is needed there.
        let kept = state.recentUsed > 1 ? state.recent[1].ap : -1
        for step in 0..<state.recentUsed {
            guard let place = pool.waiting(state.pending[step]) else { return }
            for block in 0..<pool.headers[place].leads {
                let due = time - Double(pool.headers[place].lead[block])
                guard state.recent[step].time <= due, step == 0 || state.recent[step - 1].time > due else { continue }
                if step == 0, ap == kept { continue }
                trainHorizon(place, block, ap)
            }
        }
    }

    private func trainHorizon(_ place: Int, _ block: Int, _ ap: Int32) {
        let values = pool.values(place) + SampleLayout.horizons + block * SampleLayout.horizonSize
        let list = pool.numbers(place) + SampleLayout.horizonCandidates + block * SampleLayout.horizonLimit
        let count = pool.headers[place].horizonCount[block]
        var hit = -1
        for c in 0..<count where list[c] == ap { hit = c }
        guard hit >= 0 else { return }
        models.horizon.learn(
            values,
            count,
            shared: values + SampleLayout.horizonShared,
            hit: hit,
            weight: 1,
            scratch: scratch.logs
        )
    }

    /// Tells the passes that this user is on where the user went.
    private mutating func complete(_ user: Int, to ap: Int32, time: Double) {
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
        // Someone who flaps on and on says nothing about others.
        if state.flaps > 3 { return }
        let track = Track(past: state, index)
        var pass = Pass()
        pass.previous = track.previous
        pass.following[0] = ap
        let seconds = Float(time - state.recent[0].time)
        pass.reached[0] = Pass.tenths(seconds)
        pass.logDwell = FastMath.log(max(seconds, 0.5))
        pass.approach = track.approach
        pass.timed = track.timed
        pass.logPace = track.paceKnown ? track.logPace : .nan
        pass.rssi = state.recent[0].rssi
        users[user].passes[0] = memory.add(pass, at: state.recent[0].ap)
    }

    private mutating func push(_ user: Int, _ ap: Int32, _ record: RoamingRecord, fresh: Bool) {
        let time = record.absoluteTime
        let limit = configuration.historyLimit
        let dwell = Float(time - users[user].recent[0].time)
        if !fresh {
            let flap = users[user].recentUsed > 1 && users[user].recent[1].ap == ap && dwell <= 10
            users[user].flaps = flap ? users[user].flaps &+ 1 : 0
            if let last = users[user].history.last {
                let logDwell = FastMath.log(max(dwell, 0.5))
                users[user].history[users[user].history.count - 1] = PackedVisit(bits: last).staying(logDwell).bits
            }
        } else {
            users[user].flaps = 0
            users[user].recentUsed = 0
        }
        if users[user].flaps <= 3 {
            if users[user].history.count >= limit { users[user].history.removeFirst(limit / 8) }
            let used = users[user].history.count
            if used == users[user].history.capacity {
                users[user].history.reserveCapacity(min(limit, max(16, used * 2)))
            }
            users[user].history.append(
                PackedVisit(ap: ap, logDwell: -1, slot: PackedVisit.slot(time), starts: fresh).bits
            )
        }
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
        users[user].stay = users[user].stagedStay
        users[user].stagedStay[0] = .nan
        users[user].lastTime = time
    }
}
