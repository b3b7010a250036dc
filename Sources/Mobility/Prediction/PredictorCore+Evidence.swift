/// Weights summed over all candidates.
struct EvidenceTotals {
    var pop = SIMD8<Float>.zero
    var own = SIMD8<Float>.zero
    var dwell = SIMD4<Float>.zero
    /// Weight of everybody's passes and of the user's own visits that stayed for three minutes or longer.
    var popStay: Float = 0
    /// Weight of the user's own visits that ended the session.
    var ownEnds: Float = 0
    var ownStay: Float = 0
    var popVotes = 0
    var ownVotes = 0
}

/// The candidates of one list.
struct CandidateList {
    let slots: UnsafeMutablePointer<Int16>
    let list: UnsafeMutablePointer<Int32>
    let limit: Int
    var count = 0

    /// Place of `ap`, which is added where it is new; -1 where there is no room; `isNew` tells.
    @inline(__always)
    mutating func place(_ ap: Int32) -> Int {
        let known = slots[Int(ap)]
        if known >= 0 { return Int(known) }
        guard count < limit else { return -1 }
        slots[Int(ap)] = Int16(truncatingIfNeeded: count)
        list[count] = ap
        count += 1
        return count - 1
    }

    /// Forgets the places.
    func clear() {
        for place in 0..<count { slots[Int(list[place])] = -1 }
    }
}

extension PredictorCore {
    private static let longLogDwell: Float = 5.19

    /// Sums the evidence for each candidate in `scratch` and lists the candidates in the pool.
    mutating func gather(_ user: Int, _ track: Track, _ place: Int) -> EvidenceTotals {
        let limit = SampleLayout.candidateLimit
        var candidates = CandidateList(
            slots: slots.entries,
            list: pool.numbers(place) + SampleLayout.candidates,
            limit: limit
        )
        for c in 0..<limit {
            scratch.pop[c] = .zero
            scratch.own[c] = .zero
            scratch.dwell[c] = .zero
        }
        var totals = EvidenceTotals()
        users[user].history.withUnsafeBufferPointer { history in
            gatherOwn(history, track, &candidates, &totals)
        }
        memory.passes[Int(track.visits[0].ap)].withUnsafeBufferPointer { passes in
            gatherPasses(passes, track, &candidates, &totals)
        }
        let current = track.visits[0].ap
        for step in 0..<3 where track.previous[step] >= 0 && track.previous[step] != current {
            _ = candidates.place(track.previous[step])
        }
        for near in index.neighbours[Int(current)] { _ = candidates.place(near) }
        candidates.clear()
        pool.headers[place].count = candidates.count
        return totals
    }

    /// Everybody's passes through the current access point, by likeness to this one.
    private func gatherPasses(
        _ passes: UnsafeBufferPointer<Pass>,
        _ track: Track,
        _ candidates: inout CandidateList,
        _ totals: inout EvidenceTotals
    ) {
        let rssi = track.visits[0].rssi
        let (p1, p2, p3) = (track.previous[0], track.previous[1], track.previous[2])
        var total = SIMD8<Float>.zero
        for place in passes.indices {
            let slot = candidates.place(passes[place].following[0])
            if slot < 0 { continue }
            let before = passes[place].previous
            let m2: Float = before[0] == p1 && p1 >= 0 ? 1 : 0
            let m3: Float = before[1] == p2 ? m2 : 0
            let m4: Float = before[2] == p3 ? m3 : 0
            let delta = passes[place].approach - track.approach
            let close = 1 / (1 + (delta.x * delta.x + delta.y * delta.y) * 3)
            let pace = passes[place].logPace - track.logPace
            let similar: Float = pace.isNaN || !track.paceKnown ? 0.3 : 1 / (1 + pace * pace * 2)
            let kernel = close * close * close * similar
            let strength = (passes[place].rssi - rssi) * 0.15
            let sharp = kernel * kernel / (1 + strength * strength)
            let apart = passes[place].timed - track.timed
            let along = 1 / (1 + (apart * apart * SIMD4<Float>(2, 2, 1, 1)).sum())
            let timed = along * along * along / (1 + strength * strength)
            let w: SIMD8<Float> = [1, m2, m3, m4, kernel, sharp, m2 * similar, timed]
            scratch.pop[slot] += w
            total += w
            let logDwell = passes[place].logDwell
            if logDwell < Self.longLogDwell {
                let d: SIMD4<Float> = [sharp + 0.001, (sharp + 0.001) * logDwell, 0, 0]
                scratch.dwell[slot] += d
                totals.dwell += d
            } else {
                totals.popStay += kernel
            }
            if sharp > 0.02 || m2 > 0 {
                scratch.popVotes[totals.popVotes] = .init(
                    place: Int32(place),
                    weight: sharp + 0.001,
                    exact: m2 * similar
                )
                totals.popVotes += 1
            }
        }
        totals.pop = total
    }

    /// The user's own visits to the current access point, by likeness of the way there.
    private func gatherOwn(
        _ history: UnsafeBufferPointer<UInt32>,
        _ track: Track,
        _ candidates: inout CandidateList,
        _ totals: inout EvidenceTotals
    ) {
        let current = UInt32(bitPattern: track.visits[0].ap)
        let p1 = UInt32(bitPattern: track.previous[0])
        let p2 = UInt32(bitPattern: track.previous[1])
        let p3 = UInt32(bitPattern: track.previous[2])
        let mask: UInt32 = 0xf_ffff
        let end = history.count - 1
        guard end > 0 else { return }
        for h in 0..<end {
            let bits = history[h]
            let ap = bits & mask
            guard ap == current || ap == p1 else { continue }
            let b1 = h > 0 ? history[h - 1] & mask : mask
            let b2 = h > 1 ? history[h - 2] & mask : mask
            if ap == p1 {
                // The same way without the current access point: what came next may come now.
                let w: Float = b1 == p2 ? 2 : 1
                for step in 1...2 where h + step <= end {
                    let next = history[h + step]
                    if next >> 31 != 0 || next & mask == current { break }
                    if next & mask == p2 { continue }
                    let slot = candidates.place(Int32(next & mask))
                    if slot < 0 { break }
                    scratch.own[slot][5] += w
                    totals.own[5] += w
                }
                if ap != current { continue }
            }
            let b3 = h > 2 ? history[h - 3] & mask : mask
            let b4 = h > 3 ? history[h - 4] & mask : mask
            var overlap = 0
            if p1 == b1 || p1 == b2 || p1 == b3 { overlap += 1 }
            if p2 == b1 || p2 == b2 || p2 == b3 || p2 == b4 { overlap += 1 }
            if p3 == b2 || p3 == b3 || p3 == b4 { overlap += 1 }
            let timely: Float = (bits >> 26) & 31 == track.slot ? 1 : 0
            let likeness: Float = overlap >= 3 ? 8 : overlap == 2 ? 3 : overlap == 1 ? 1 : 0.2
            let soft = likeness * (1 + 0.5 * timely)
            let next = history[h + 1]
            if next >> 31 != 0 {
                totals.ownStay += soft
                totals.ownEnds += soft
                continue
            }
            let slot = candidates.place(Int32(next & mask))
            if slot < 0 { continue }
            let m2: Float = b1 == p1 ? 1 : 0
            let m3: Float = b2 == p2 ? m2 : 0
            let m4: Float = b3 == p3 ? m3 : 0
            let w: SIMD8<Float> = [1, m2, m3, m4, soft, 0, timely, 0]
            scratch.own[slot] += w
            totals.own += w
            let code = (bits >> 20) & 63
            let logDwell = (Float(code) - 1.5) / 9
            if code != 0, logDwell < Self.longLogDwell {
                let d: SIMD4<Float> = [0, 0, soft, soft * logDwell]
                scratch.dwell[slot] += d
                totals.dwell += d
            } else if code != 0 {
                totals.ownStay += soft
            }
            scratch.ownVotes[totals.ownVotes] = .init(place: Int32(h), weight: soft, exact: 0)
            totals.ownVotes += 1
        }
    }
}
