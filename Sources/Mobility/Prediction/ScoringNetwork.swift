/// A small network that scores candidates from features of their own and features that all of them share.
///
/// score = output · act(bias + Σ shared·W + Σ own·W), with sixteen units of which the last `outputs` are linear and
/// belong to one output each, the others leaky. Trained online by gradients that are scaled by their running root mean
/// square (RMSProp), a few samples at a time. A whole sample is handled per call, since calls between files cost.
package final class ScoringNetwork {
    typealias Row = SIMD16<Float>
    /// Most candidates of a call.
    static let candidateLimit = Scratch.width
    /// Samples per update.
    static let batch = 4

    let ownCount: Int
    let sharedCount: Int
    let outputs: Int
    package var rate: Float
    /// Rows: own features, shared features, bias, outputs.
    private let rows: Int
    // SAFETY: the four blocks hold `rows` rows each, are owned by this object and freed by deinit; every index below is
    // smaller than `rows` by construction.
    private let weights: UnsafeMutablePointer<Row>
    private let squares: UnsafeMutablePointer<Row>
    private let gradient: UnsafeMutablePointer<Row>
    // SAFETY: `candidateLimit` rows, owned by this object and freed by deinit; no list of candidates is longer.
    private let sums: UnsafeMutablePointer<Row>
    /// 1 in the lanes of `outputs` that are trained.
    private let trained: Row
    /// What units pass on of negative sums, by lane: a tenth of those that are trained, all of the linear ones.
    private let slope: Row
    private var waiting = 0

    package init(own: Int, shared: Int, outputs: Int, rate: Float, seed: UInt64) {
        ownCount = own
        sharedCount = shared
        self.outputs = outputs
        self.rate = rate
        rows = own + shared + 1 + outputs
        weights = .allocate(capacity: rows)
        squares = .allocate(capacity: rows)
        gradient = .allocate(capacity: rows)
        sums = .allocate(capacity: Self.candidateLimit)
        sums.initialize(repeating: .zero, count: Self.candidateLimit)
        squares.initialize(repeating: Row(repeating: 1e-2), count: rows)
        gradient.initialize(repeating: .zero, count: rows)
        weights.initialize(repeating: .zero, count: rows)
        var generator = SeededGenerator(seed: seed)
        let scale = 1 / Float(own + shared).squareRoot()
        var mask = Row(repeating: 1)
        for lane in (16 - outputs)..<16 { mask[lane] = 0 }
        trained = mask
        slope = Row(repeating: 1) - mask * 0.9
        for row in 0..<rows {
            var value = Row.zero
            for lane in 0..<(16 - outputs) {
                value[lane] = generator.symmetric() * (row < rows - outputs ? scale : 0.1)
            }
            weights[row] = value
        }
        for output in 0..<outputs { weights[own + shared + 1 + output][15 - output] = 1 }
    }

    deinit {
        weights.deallocate()
        squares.deallocate()
        gradient.deallocate()
        sums.deallocate()
    }

    /// Sets the weight of the straight way from an own feature (or the bias: `ownCount`) to an output.
    func setDirect(_ output: Int, _ feature: Int, _ value: Float) {
        weights[feature == ownCount ? ownCount + sharedCount : feature][15 - output] = value
    }

    /// All weights, row by row.
    package var parameters: [Float] {
        get { (0..<(rows * 16)).map { weights[$0 / 16][$0 % 16] } }
        set {
            guard newValue.count == rows * 16 else { return }
            for place in newValue.indices { weights[place / 16][place % 16] = newValue[place] }
        }
    }

    var parameterCount: Int { rows * 16 }

    @inline(__always)
    private func leaky(_ value: Row) -> Row {
        let positive = value.replacing(with: Row.zero, where: value .< Row.zero)
        return positive + (value - positive) * slope
    }

    @inline(__always)
    private func sharedSum(_ shared: UnsafePointer<Float>) -> Row {
        var sum = weights[ownCount + sharedCount]
        for index in 0..<sharedCount { sum += weights[ownCount + index] * shared[index] }
        return sum
    }

    /// Scores `count` candidates whose own features stand one after another; row `output` of the outputs.
    func score(
        _ own: UnsafePointer<Float>,
        _ count: Int,
        shared: UnsafePointer<Float>,
        output: Int = 0,
        into scores: UnsafeMutablePointer<Float>
    ) {
        let common = sharedSum(shared)
        let last = weights[ownCount + sharedCount + 1 + output]
        unitSums(own, count, common)
        for c in 0..<count { scores[c] = (leaky(sums[c]) * last).sum() }
    }

    /// Leaves the units' sums of each candidate in `sums`; two at a time, so that neither waits for its own additions.
    @inline(__always)
    private func unitSums(_ own: UnsafePointer<Float>, _ count: Int, _ common: Row) {
        var c = 0
        while c + 1 < count {
            let x = own + c * ownCount
            let y = x + ownCount
            var first = common
            var second = common
            for index in 0..<ownCount {
                let row = weights[index]
                first += row * x[index]
                second += row * y[index]
            }
            (sums[c], sums[c + 1]) = (first, second)
            c += 2
        }
        guard c < count else { return }
        let x = own + c * ownCount
        var sum = common
        for index in 0..<ownCount { sum += weights[index] * x[index] }
        sums[c] = sum
    }

    /// Scores `count` candidates by every output at once; the scores of output `o` begin at `o * stride`.
    func scoreAll(
        _ own: UnsafePointer<Float>,
        _ count: Int,
        shared: UnsafePointer<Float>,
        stride: Int,
        into scores: UnsafeMutablePointer<Float>
    ) {
        let common = sharedSum(shared)
        let last = weights + ownCount + sharedCount + 1
        unitSums(own, count, common)
        for c in 0..<count {
            let units = leaky(sums[c])
            for output in 0..<outputs { scores[output * stride + c] = (units * last[output]).sum() }
        }
    }

    /// Turns scores into probabilities that sum to 1.
    static func softmax(_ scores: UnsafeMutablePointer<Float>, _ count: Int) {
        var top = -Float.infinity
        for c in 0..<count { top = max(top, scores[c]) }
        var sum: Float = 0
        for c in 0..<count {
            scores[c] = FastMath.exp(scores[c] - top)
            sum += scores[c]
        }
        for c in 0..<count { scores[c] /= sum }
    }

    /// Learns that candidate `hit` was the right one: a step down the gradient of -log softmax.
    func learn(
        _ own: UnsafePointer<Float>,
        _ count: Int,
        shared: UnsafePointer<Float>,
        hit: Int,
        weight: Float,
        scratch: UnsafeMutablePointer<Float>
    ) {
        score(own, count, shared: shared, into: scratch)
        Self.softmax(scratch, count)
        let last = ownCount + sharedCount + 1
        var commonGradient = Row.zero
        for c in 0..<count {
            let slope = (scratch[c] - (c == hit ? 1 : 0)) * weight
            if abs(slope) < 2e-3 { continue }
            commonGradient += push(own + c * ownCount, sums[c], slope, last)
        }
        finish(shared, commonGradient)
    }

    /// Learns quantiles (one output each) of `truth` for one candidate: steps down the gradients of the pinball loss.
    func learnQuantiles(_ own: UnsafePointer<Float>, shared: UnsafePointer<Float>, truth: Float, _ quantiles: [Float]) {
        var commonGradient = Row.zero
        for (output, quantile) in quantiles.enumerated() {
            var value: Float = 0
            score(own, 1, shared: shared, output: output, into: &value)
            let slope = value > truth ? 1 - quantile : -quantile
            commonGradient += push(own, sums[0], slope, ownCount + sharedCount + 1 + output)
        }
        finish(shared, commonGradient)
    }

    /// Learns whether something happened: a step down the gradient of the logistic loss.
    func learnEvent(_ own: UnsafePointer<Float>, shared: UnsafePointer<Float>, happened: Bool) {
        var value: Float = 0
        score(own, 1, shared: shared, into: &value)
        let probability = 1 / (1 + FastMath.exp(-value))
        let slope = probability - (happened ? 1 : 0)
        finish(shared, push(own, sums[0], slope, ownCount + sharedCount + 1))
    }

    /// Adds a candidate's gradient, given its units' sums; returns the units' share of it.
    @inline(__always)
    private func push(_ x: UnsafePointer<Float>, _ sum: Row, _ slope: Float, _ last: Int) -> Row {
        gradient[last] += leaky(sum) * slope * trained
        let straight = weights[last] * slope
        let back = straight.replacing(with: straight * self.slope, where: sum .< Row.zero)
        for index in 0..<ownCount { gradient[index] += back * x[index] }
        return back
    }

    @inline(__always)
    private func finish(_ shared: UnsafePointer<Float>, _ common: Row) {
        for index in 0..<sharedCount { gradient[ownCount + index] += common * shared[index] }
        gradient[ownCount + sharedCount] += common
        waiting += 1
        guard waiting == Self.batch else { return }
        waiting = 0
        let keep: Float = 0.998
        for row in 0..<rows {
            let g = gradient[row]
            let square = squares[row] * keep + g * g * (1 - keep)
            squares[row] = square
            weights[row] -= g * rate / (square.squareRoot() + 1e-4)
            gradient[row] = .zero
        }
    }
}
