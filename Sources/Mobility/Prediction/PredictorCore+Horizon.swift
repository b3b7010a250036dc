extension PredictorCore {
    /// Ranks the access points by the hand-offs expected from `lead` until `lead` after the next association.
    mutating func anticipate(_ user: Int, _ track: Track, _ totals: EvidenceTotals, _ place: Int, _ leads: [Double]) {
        while outcome.horizons.count < leads.count { outcome.horizons.append([]) }
        pool.headers[place].leads = min(leads.count, SampleLayout.leadLimit)
        // What is asked for beyond the limit is answered in the last block, which keeps the last one to learn from.
        for (turn, lead) in leads.enumerated() {
            let block = min(turn, SampleLayout.leadLimit - 1)
            pool.headers[place].lead[block] = Float(lead)
            let values = pool.values(place) + SampleLayout.horizons + block * SampleLayout.horizonSize
            let list = pool.numbers(place) + SampleLayout.horizonCandidates + block * SampleLayout.horizonLimit
            let count = gatherHorizon(user, track, totals, Float(lead), values, list)
            pool.headers[place].horizonCount[block] = count
            rankHorizon(turn, values, list, count)
        }
    }

    private func gatherHorizon(
        _ user: Int,
        _ track: Track,
        _ totals: EvidenceTotals,
        _ lead: Float,
        _ values: UnsafeMutablePointer<Float>,
        _ list: UnsafeMutablePointer<Int32>
    ) -> Int {
        let current = track.visits[0].ap
        var candidates = CandidateList(slots: slots.entries, list: list, limit: SampleLayout.horizonLimit)
        for c in 0..<SampleLayout.horizonLimit {
            scratch.horizonSums[c] = .zero
            scratch.horizonStep[c] = [1e-4, 0]
        }
        for step in outcome.steps.prefix(12) {
            scratch.horizonStep[candidates.place(step.ap)] = [step.probability, FastMath.log(step.median)]
        }
        var total = SIMD4<Float>.zero
        users[user].history.withUnsafeBufferPointer { history in
            gatherOwnWindow(history, totals.ownVotes, lead, &candidates, &total)
        }
        memory.passes[Int(current)].withUnsafeBufferPointer { passes in
            gatherPassWindow(passes, totals.popVotes, lead, track, &candidates, &total)
        }
        _ = candidates.place(current)
        candidates.clear()
        describeHorizon(track, lead, total, values, list, candidates.count)
        return candidates.count
    }

    /// What happened in the same window of everybody's passes.
    private func gatherPassWindow(
        _ passes: UnsafeBufferPointer<Pass>,
        _ votes: Int,
        _ lead: Float,
        _ track: Track,
        _ candidates: inout CandidateList,
        _ total: inout SIMD4<Float>
    ) {
        for turn in 0..<votes {
            let vote = scratch.popVotes[turn]
            let place = Int(vote.place)
            let first = passes[place].reached[0]
            if first > 1800 { continue }
            var stretch: Float = 1
            let pace = track.logPace - passes[place].logPace
            if track.paceKnown, !pace.isNaN { stretch = 1 + min(max(pace * 0.5, -0.5), 0.8) }
            let from = UInt16(min(lead * 10 / stretch, 60_000))
            let until = from > 60_000 - first ? 60_000 : from + first
            let following = passes[place].following
            let reached = passes[place].reached
            for k in 0..<Pass.depth {
                let ap = following[k]
                if ap < 0 || reached[k] > until { break }
                if reached[k] <= from { continue }
                let slot = candidates.place(ap)
                if slot < 0 { continue }
                let w: SIMD4<Float> = [vote.weight, vote.exact, 0, 0]
                scratch.horizonSums[slot] += w
                total += w
            }
        }
    }

    /// What happened in the same window of the user's own history.
    private func gatherOwnWindow(
        _ history: UnsafeBufferPointer<UInt32>,
        _ votes: Int,
        _ lead: Float,
        _ candidates: inout CandidateList,
        _ total: inout SIMD4<Float>
    ) {
        for turn in 0..<votes {
            let vote = scratch.ownVotes[turn]
            var h = Int(vote.place)
            var seconds: Float = 0
            var until: Float = 0
            while h + 1 < history.count {
                let code = (history[h] >> 20) & 63
                let next = history[h + 1]
                if next >> 31 != 0 || code == 0 { break }
                seconds += scratch.dwellSeconds[Int(code)]
                if until == 0 {
                    if seconds > 180 { break }
                    until = lead + seconds
                }
                if seconds > until { break }
                if seconds > lead {
                    let slot = candidates.place(Int32(next & 0xf_ffff))
                    if slot >= 0 {
                        scratch.horizonSums[slot].z += vote.weight
                        total.z += vote.weight
                    }
                }
                h += 1
            }
        }
    }

    private func describeHorizon(
        _ track: Track,
        _ lead: Float,
        _ total: SIMD4<Float>,
        _ values: UnsafeMutablePointer<Float>,
        _ list: UnsafeMutablePointer<Int32>,
        _ count: Int
    ) {
        let width = SampleLayout.horizonOwnCount
        let logLead = FastMath.log(max(lead, 0.5))
        let median = outcome.steps.first?.median ?? 8
        let pace = track.paceKnown ? FastMath.exp(track.logPace) : 15
        let reach = min((lead + 0.5 * median) / pace, 6)
        let ahead = track.longHeading * reach
        let logs = scratch.logs
        for c in 0..<count {
            let sums = scratch.horizonSums[c]
            let step = scratch.horizonStep[c]
            let late = 1 / (1 + FastMath.exp((logLead - step.y) * 2))
            let p = step.x * late
            let smooth = 0.3 * p + 0.005
            let at = logs + c * 8
            at[0] = (sums.x + smooth) / (total.x + 1)
            at[1] = (sums.y + smooth) / (total.y + 1)
            at[2] = (sums.z + smooth) / (total.z + 1)
            at[3] = step.x + 1e-3
            at[4] = 1
            at[5] = p + 1e-3
            at[6] = 1
            at[7] = 1
            values[c * width + 4] = late
        }
        FastMath.log(logs, count * 8, scale: 0.5)
        for c in 0..<count {
            let ap = list[c]
            let to = values + c * width
            for f in 0..<6 where f != 4 { to[f] = logs[c * 8 + f] }
            for f in 6..<width { to[f] = 0 }
            let position = index.positions[Int(ap)]
            if track.placed, !position.x.isNaN {
                let delta = (position - track.here) / track.spacing
                let gap = delta - ahead
                to[6] = (gap * gap).sum().squareRoot()
                to[7] = (delta * track.longHeading).sum()
                to[8] = abs(delta.x * track.longHeading.y - delta.y * track.longHeading.x)
                to[9] = (delta * delta).sum().squareRoot()
            }
            to[10] = ap == track.visits[0].ap ? 1 : 0
            for step in 0..<3 where track.previous[step] == ap { to[11 + step] = 1 }
        }
        let shared = values + SampleLayout.horizonShared
        shared[0] = logLead - (track.paceKnown ? track.logPace : 2.5)
        shared[1] = logLead - FastMath.log(median)
        shared[2] = FastMath.log(1 + total.x) * 0.3
        shared[3] = FastMath.log(1 + total.y) * 0.3
        shared[4] = FastMath.log(1 + total.z) * 0.3
        shared[5] = track.visits[0].rssi == 0 ? 0 : (track.visits[0].rssi + 84) * 0.1
        shared[6] = outcome.steps.first?.probability ?? 0
        shared[7] = track.paceKnown ? 1 : 0
        shared[8] = track.placed ? 1 : 0
        shared[9] = (track.shortHeading * track.longHeading).sum()
    }

    private mutating func rankHorizon(
        _ turn: Int,
        _ values: UnsafeMutablePointer<Float>,
        _ list: UnsafeMutablePointer<Int32>,
        _ count: Int
    ) {
        let shared = values + SampleLayout.horizonShared
        models.horizon.score(values, count, shared: shared, into: scratch.logs)
        ScoringNetwork.softmax(scratch.logs, count)
        outcome.horizons[turn].removeAll(keepingCapacity: true)
        for c in 0..<count { outcome.horizons[turn].append(Outcome.Expected(ap: list[c], weight: scratch.logs[c])) }
        outcome.horizons[turn].sort { left, right in
            left.weight != right.weight ? left.weight > right.weight : left.ap < right.ap
        }
    }
}
