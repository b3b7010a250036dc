/// Tables and a plot of evaluations.
public enum EvaluationReport {
    /// A table for people, one block per network.
    public static func table(_ evaluations: [MobilityEvaluation]) -> String {
        var text = ""
        for evaluation in evaluations {
            let first = evaluation.scores.first
            text +=
                "\(evaluation.name): \(first?.count ?? 0) predictions and \(first?.handoffs ?? 0) hand-offs of moving users on"
            text += " test days\n"
            var rows = [
                [
                    "predictor", "top-1 %", "top-2 %", "top-3 %", "top-1 % unseen", "time error s", "ECE",
                    "replica hit % N=1/2/3, T=\(decimals(evaluation.lead, 0)) s", "with previous host",
                ]
            ]
            for score in evaluation.scores {
                rows.append([
                    score.name, percent(score.top[0]), percent(score.top[1]), percent(score.top[2]),
                    percent(score.topUnseen), decimals(score.timeError, 2),
                    score.calibrationError.map { decimals($0, 3) } ?? "-",
                    score.hit.map(percent).joined(separator: "/"),
                    score.hitWithPrevious.map(percent).joined(separator: "/"),
                ])
            }
            text += columns(rows) + "\n"
        }
        return text
    }

    private static func columns(_ rows: [[String]]) -> String {
        let widths = rows[0].indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
        return rows.map { row in
            row.enumerated().map { column, cell in
                let gap = String(repeating: " ", count: widths[column] - cell.count)
                return column == 0 ? cell + gap : gap + cell
            }.joined(separator: "  ") + "\n"
        }.joined()
    }

    private static func percent(_ share: Double) -> String { decimals(share * 100, 1) }

    static func decimals(_ value: Double, _ count: Int) -> String {
        var bytes: [UInt8] = []
        JSONBytes.number(value, decimals: count, into: &bytes)
        return String(decoding: bytes, as: UTF8.self)
    }

    /// An SVG plot: accuracy and replica hit rate of every predictor, one panel per network.
    public static func svg(_ evaluations: [MobilityEvaluation]) -> String {
        let colours = ["#1b6ca8", "#8fb8d8", "#5aa469", "#d98e04", "#b04a5a"]
        let panel = (width: 900.0, height: 300.0)
        let height = panel.height * Double(max(evaluations.count, 1)) + 60
        var text = """
            <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 \(decimals(panel.width, 0)) \(decimals(height, 0))" \
            font-family="sans-serif" font-size="12">
            <rect width="100%" height="100%" fill="white"/>

            """
        for (turn, score) in (evaluations.first?.scores ?? []).enumerated() {
            let x = 50 + Double(turn) * 172
            text += rectangle(x, 12, 12, 12, colours[turn % colours.count])
            text += label(x + 17, 22, score.name, anchor: "start")
        }
        for (row, evaluation) in evaluations.enumerated() {
            text += drawPanel(evaluation, top: 40 + panel.height * Double(row), colours: colours)
        }
        return text + "</svg>\n"
    }

    private static func drawPanel(_ evaluation: MobilityEvaluation, top: Double, colours: [String]) -> String {
        let (base, scale) = (top + 250, 2.1)
        var text = label(50, top + 18, "\(evaluation.name), % of moving users' hand-offs on test days", anchor: "start")
        for tick in [0, 20, 40, 60, 80, 100] {
            let y = base - Double(tick) * scale
            text += "<line x1=\"45\" x2=\"890\" y1=\"\(decimals(y, 1))\" y2=\"\(decimals(y, 1))\" stroke=\"#ddd\"/>\n"
            text += label(40, y + 4, "\(tick)", anchor: "end")
        }
        let lead = decimals(evaluation.lead, 0)
        let groups: [(String, (MobilityScore) -> Double)] = [
            ("top-1", { $0.top[0] }), ("top-2", { $0.top[1] }), ("top-3", { $0.top[2] }),
            ("replica N=1", { $0.hit[0] }), ("N=2", { $0.hit[1] }), ("N=3, T=\(lead) s", { $0.hit[2] }),
            ("N=3 + previous", { $0.hitWithPrevious[2] }),
        ]
        for (place, group) in groups.enumerated() {
            let left = 55 + Double(place) * 119
            for (turn, score) in evaluation.scores.enumerated() {
                let share = group.1(score) * 100
                let x = left + Double(turn) * 21
                text += rectangle(x, base - share * scale, 18, share * scale, colours[turn % colours.count])
                text += label(x + 9, base - share * scale - 3, decimals(share, 0), anchor: "middle", size: 9)
            }
            text += label(left + 50, base + 16, group.0, anchor: "middle")
        }
        return text
    }

    private static func rectangle(_ x: Double, _ y: Double, _ w: Double, _ h: Double, _ colour: String) -> String {
        "<rect x=\"\(decimals(x, 1))\" y=\"\(decimals(y, 1))\" width=\"\(decimals(w, 1))\" height=\"\(decimals(h, 1))\""
            + " fill=\"\(colour)\"/>\n"
    }

    private static func label(_ x: Double, _ y: Double, _ text: String, anchor: String, size: Int = 12) -> String {
        var safe = ""
        for character in text {
            switch character {
            case "<": safe += "&lt;"
            case "&": safe += "&amp;"
            default: safe.append(character)
            }
        }
        return "<text x=\"\(decimals(x, 1))\" y=\"\(decimals(y, 1))\" text-anchor=\"\(anchor)\" font-size=\"\(size)\">"
            + "\(safe)</text>\n"
    }
}
