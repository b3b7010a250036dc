/// Evidence for where the user is handed off a lead time ahead, per candidate.
struct HorizonEvidence {
    static let limit = 40
    static let ownCount = 18
    static let sharedCount = 10

    var lead: Float = 0
    var candidates: [Int32] = []
    var own: [Float] = Array(repeating: 0, count: limit * ownCount)
    var shared: [Float] = Array(repeating: 0, count: sharedCount)

    init() { candidates.reserveCapacity(Self.limit) }
}

/// Sums while the evidence is gathered.
struct HorizonVotes {
    /// Weights by everybody's passes, by those with the same previous access point, by the user's own, first step.
    var sums: [SIMD4<Float>] = Array(repeating: .zero, count: HorizonEvidence.limit)
    var total: SIMD4<Float> = .zero
    /// Probability as the next step and the logarithm of its seconds.
    var step: [SIMD2<Float>] = Array(repeating: .zero, count: HorizonEvidence.limit)
}

extension Predictor {
    /// Ranks the access points by the hand-offs expected from `lead` until `lead` after the next association.
    func anticipate(_ state: UserState, _ track: Track, _ leads: [Double]) {
        while outcome.horizons.count < leads.count { outcome.horizons.append([]) }
        while sample.horizons.count < leads.count { sample.horizons.append(HorizonEvidence()) }
        if sample.horizons.count > leads.count { sample.horizons.removeLast(sample.horizons.count - leads.count) }
        for place in leads.indices {
            sample.horizons[place].lead = Float(leads[place])
            gatherHorizon(state, track, place)
            rankHorizon(place)
        }
    }

    private func horizonCandidate(_ ap: Int32, _ place: Int) -> Int {
        let known = slotOf[Int(ap)]
        if known >= 0 { return Int(known) }
        let slot = sample.horizons[place].candidates.count
        guard slot < HorizonEvidence.limit else { return -1 }
        sample.horizons[place].candidates.append(ap)
        slotOf[Int(ap)] = Int16(slot)
        horizonVotes.sums[slot] = .zero
        horizonVotes.step[slot] = [1e-4, 0]
        return slot
    }

    private func gatherHorizon(_ state: UserState, _ track: Track, _ place: Int) {
        let lead = sample.horizons[place].lead
        let current = track.visits[0].ap
        sample.horizons[place].candidates.removeAll(keepingCapacity: true)
        horizonVotes.total = .zero
        for step in outcome.steps.prefix(12) {
            let slot = horizonCandidate(step.ap, place)
            horizonVotes.step[slot] = [step.probability, FastMath.log(step.median)]
        }
        gatherOwnWindow(state, place, lead)
        gatherPassWindow(current, place, lead, track)
        _ = horizonCandidate(current, place)
        describeHorizon(track, place)
        for ap in sample.horizons[place].candidates { slotOf[Int(ap)] = -1 }
    }

    /// What happened in the same window of everybody's passes.
    private func gatherPassWindow(_ current: Int32, _ place: Int, _ lead: Float, _ track: Track) {
        for vote in votes where vote.weight > 0.02 || vote.exact > 0 {
            let pass = memory.passes[Int(current)][Int(vote.place)]
            var stretch: Float = 1
            if track.paceKnown, !pass.logPace.isNaN {
                stretch = FastMath.exp(min(max((track.logPace - pass.logPace) * 0.5, -0.7), 0.7))
            }
            let from = UInt16(lead * 10 / stretch)
            let first = pass.reached[0]
            if first > 1800 { continue }
            let until = from + first
            for k in 0..<Pass.depth {
                let ap = pass.following[k]
                if ap < 0 || pass.reached[k] > until { break }
                if pass.reached[k] <= from { continue }
                let slot = horizonCandidate(ap, place)
                if slot < 0 { continue }
                let w: SIMD4<Float> = [vote.weight, vote.exact, 0, 0]
                horizonVotes.sums[slot] += w
                horizonVotes.total += w
            }
        }
    }

    /// What happened in the same window of the user's own history.
    private func gatherOwnWindow(_ state: UserState, _ place: Int, _ lead: Float) {
        for vote in ownVotes {
            var h = Int(vote.place)
            var seconds: Float = 0
            var until: Float = 0
            while h + 1 < state.history.count {
                let visit = PackedVisit(bits: state.history[h])
                let next = PackedVisit(bits: state.history[h + 1])
                if next.starts || !visit.hasDwell { break }
                seconds += FastMath.exp(visit.logDwell)
                if until == 0 {
                    if seconds > 180 { break }
                    until = lead + seconds
                }
                if seconds > until { break }
                if seconds > lead {
                    let slot = horizonCandidate(next.ap, place)
                    if slot >= 0 {
                        horizonVotes.sums[slot][2] += vote.weight
                        horizonVotes.total[2] += vote.weight
                    }
                }
                h += 1
            }
        }
    }

    private func describeHorizon(_ track: Track, _ place: Int) {
        let width = HorizonEvidence.ownCount
        let lead = sample.horizons[place].lead
        let logLead = FastMath.log(max(lead, 0.5))
        let logDwell = outcome.steps.isEmpty ? 2 : FastMath.log(outcome.steps[0].median)
        let pace = track.paceKnown ? FastMath.exp(track.logPace) : 15
        let reach = min((lead + 0.5 * FastMath.exp(logDwell)) / pace, 6)
        let ahead = track.here + track.longHeading * (reach * track.spacing)
        for c in sample.horizons[place].candidates.indices {
            let ap = sample.horizons[place].candidates[c]
            let base = c * width
            let sums = horizonVotes.sums[c]
            let step = horizonVotes.step[c]
            let late = 1 / (1 + FastMath.exp((logLead - step.y) * 2))
            let p = step.x * late
            let smooth = 0.3 * p + 0.005
            var values: InlineArray<18, Float> = .init(repeating: 0)
            values[0] = FastMath.log((sums.x + smooth) / (horizonVotes.total.x + 1)) * 0.5
            values[1] = FastMath.log((sums.y + smooth) / (horizonVotes.total.y + 1)) * 0.5
            values[2] = FastMath.log((sums.z + smooth) / (horizonVotes.total.z + 1)) * 0.5
            values[3] = FastMath.log(step.x + 1e-3) * 0.5
            values[4] = late
            values[5] = FastMath.log(p + 1e-3) * 0.5
            if track.placed, index.hasPosition(ap) {
                let place = index.positions[Int(ap)]
                let delta = (place - track.here) / track.spacing
                let gap = (place - ahead) / track.spacing
                values[6] = (gap * gap).sum().squareRoot()
                values[7] = (delta * track.longHeading).sum()
                values[8] = abs(delta.x * track.longHeading.y - delta.y * track.longHeading.x)
                values[9] = (delta * delta).sum().squareRoot()
            }
            values[10] = ap == track.visits[0].ap ? 1 : 0
            for step in 1..<4 where step < track.used && track.visits[step].ap == ap { values[10 + step] = 1 }
            for f in 0..<width { sample.horizons[place].own[base + f] = values[f] }
        }
        sample.horizons[place].shared[0] = logLead - (track.paceKnown ? track.logPace : 2.5)
        sample.horizons[place].shared[1] = logLead - logDwell
        sample.horizons[place].shared[2] = FastMath.log(1 + horizonVotes.total.x) * 0.3
        sample.horizons[place].shared[3] = FastMath.log(1 + horizonVotes.total.y) * 0.3
        sample.horizons[place].shared[4] = FastMath.log(1 + horizonVotes.total.z) * 0.3
        sample.horizons[place].shared[5] = sample.shared[11]
        sample.horizons[place].shared[6] = outcome.steps.first?.probability ?? 0
        sample.horizons[place].shared[7] = track.paceKnown ? 1 : 0
        sample.horizons[place].shared[8] = track.placed ? 1 : 0
        sample.horizons[place].shared[9] = sample.shared[16]
    }

    private func rankHorizon(_ place: Int) {
        outcome.horizons[place].removeAll(keepingCapacity: true)
        horizonNetwork.setShared(sample.horizons[place].shared, at: 0)
        var top = -Float.infinity
        for c in sample.horizons[place].candidates.indices {
            let score = horizonNetwork.score(sample.horizons[place].own, at: c * HorizonEvidence.ownCount)
            outcome.horizons[place].append(Outcome.Expected(ap: sample.horizons[place].candidates[c], weight: score))
            top = max(top, score)
        }
        var sum: Float = 0
        for c in outcome.horizons[place].indices {
            outcome.horizons[place][c].weight = FastMath.exp(outcome.horizons[place][c].weight - top)
            sum += outcome.horizons[place][c].weight
        }
        for c in outcome.horizons[place].indices { outcome.horizons[place][c].weight /= sum }
        outcome.horizons[place].sort { ($0.weight, $1.ap) > ($1.weight, $0.ap) }
    }

    /// Learns from a hand-off which replicas the decision a lead time before should have made.
    func trainHorizons(_ state: UserState, to ap: Int32, time: Double) {
        guard time - state.recent[0].time < 180 else { return }
        // The host before the current one keeps its copy: no replica is needed there.
        let kept = state.recentUsed > 1 ? state.recent[1].ap : -1
        for step in 0..<state.recentUsed {
            guard let slot = waiting(state.pending[step]) else { return }
            for place in pool[slot].horizons.indices {
                let due = time - Double(pool[slot].horizons[place].lead)
                guard state.recent[step].time <= due, step == 0 || state.recent[step - 1].time > due else { continue }
                if step == 0, ap == kept { continue }
                trainHorizon(slot, place, ap)
            }
        }
    }

    private func trainHorizon(_ slot: Int, _ place: Int, _ ap: Int32) {
        guard let hit = pool[slot].horizons[place].candidates.firstIndex(of: ap) else { return }
        let evidence = pool[slot].horizons[place]
        horizonNetwork.setShared(evidence.shared, at: 0)
        var scores: InlineArray<40, Float> = .init(repeating: 0)
        var top = -Float.infinity
        let count = evidence.candidates.count
        for c in 0..<count {
            scores[c] = horizonNetwork.score(evidence.own, at: c * HorizonEvidence.ownCount)
            top = max(top, scores[c])
        }
        var sum: Float = 0
        for c in 0..<count {
            scores[c] = FastMath.exp(scores[c] - top)
            sum += scores[c]
        }
        for c in 0..<count {
            let slope = scores[c] / sum - (c == hit ? 1 : 0)
            if abs(slope) > 1e-3 {
                horizonNetwork.accumulate(evidence.own, at: c * HorizonEvidence.ownCount, slope: slope)
            }
        }
        horizonNetwork.update(evidence.shared, sharedAt: 0)
    }
}
