"""Families of calculations on markets, portfolios, valuation, risk and regulation."""

from .calculation import Calculation, decimal_of, family, money


@family("markets", 1)
def dividend_yield(r):
    price, dividend = r.randrange(20, 160), r.choice([0.8, 1.2, 1.5, 1.8, 2.4, 3, 3.6, 4.2])
    c = Calculation("dividend yield = annual dividend / share price × 100")
    c.step("yield", f"{dividend} / {price} * 100", 2, "%")
    return [f"A share costs {money(price)} and pays a yearly dividend of {money(dividend)}. What is its dividend yield?",
            f"What is the dividend yield of a share with a price of {money(price)} and an annual dividend of {money(dividend)}?"], c


@family("markets", 3)
def price_earnings(r):
    income, shares = r.randrange(120, 900) * 1000, r.randrange(40, 300) * 1000
    price = max(2, round(income / shares * r.uniform(8, 24)))
    c = Calculation("price-to-earnings ratio = share price / (net income / number of shares)")
    eps = c.step("earnings per share", f"{income} / {shares}")
    c.step("ratio", f"{price} / {eps}")
    return [f"A company earns {money(income)}, has {shares:,} shares and its share price is {money(price)}. What is its "
            "price-to-earnings ratio?",
            f"Net income is {money(income)}, there are {shares:,} shares and one share costs {money(price)}. What is the "
            "price-to-earnings ratio?"], c


@family("markets", 1)
def market_capitalisation(r):
    shares, price = r.randrange(50, 900) * 10000, r.randrange(20, 900) / 10
    c = Calculation("market capitalisation = share price × number of shares")
    c.step("capitalisation", f"{price} * {shares}", 0)
    return [f"A company has {shares:,} shares at {money(price)} each. What is its market capitalisation?",
            f"What is the market capitalisation of a company with {shares:,} shares and a share price of {money(price)}?"], c


@family("markets", 2)
def holding_period_return(r):
    buy = r.randrange(20, 120)
    sell, dividend = buy + r.randrange(-12, 30), r.choice([0.5, 1, 1.5, 2, 2.5])
    c = Calculation("holding period return = (sale price - purchase price + dividends) / purchase price × 100")
    c.step("return", f"({sell} - {buy} + {dividend}) / {buy} * 100", 2, "%")
    return [f"A share is bought for {money(buy)}, pays a dividend of {money(dividend)} and is sold for {money(sell)}. What is the "
            "holding period return?",
            f"An investor buys a share at {money(buy)}, receives {money(dividend)} in dividends and sells it at {money(sell)}. What "
            "is the return in percent?"], c


@family("markets", 3)
def call_profit(r):
    strike, premium = r.randrange(40, 120), r.choice([2, 2.5, 3, 3.5, 4])
    price, options = strike + r.randrange(6, 25), r.choice([50, 100, 200, 300])
    c = Calculation("profit = (share price - strike price - premium) × number of options")
    one = c.step("profit per option", f"{price} - {strike} - {premium}")
    c.step("profit", f"{one} * {options}")
    return [f"An investor pays {money(premium)} each for {options} call options with a strike price of {money(strike)}. What is the "
            f"profit if the share costs {money(price)} at expiry?",
            f"At expiry a share costs {money(price)}. What is the profit on {options} call options, one share each, with strike "
            f"{money(strike)} bought for {money(premium)} each?"], c


@family("portfolio", 3)
def growth_rate(r):
    start, years = r.randrange(10, 90) * 100, r.randint(2, 10)
    end = int(start * (1 + r.uniform(0.02, 0.13)) ** years / 100) * 100 + 100
    c = Calculation("annual growth rate = ((final value / initial value)^(1 / years) - 1) × 100")
    c.step("rate", f"(({end} / {start}) ** (1 / {years}) - 1) * 100", 2, "%")
    return [f"An investment grows from {money(start)} to {money(end)} in {years} years. What is its compound annual growth rate?",
            f"What yearly compound return turns {money(start)} into {money(end)} in {years} years?"], c


@family("portfolio", 2)
def portfolio_return(r):
    weight, a, b = r.choice([20, 30, 35, 40, 55, 60, 70, 75]), r.choice([6, 7, 8, 9, 10]), r.choice([1.5, 2, 3, 4])
    c = Calculation("portfolio return = weight of shares × return of shares + weight of bonds × return of bonds")
    other = c.step("weight of bonds", f"100 - {weight}", 0, "%")
    c.step("portfolio return", f"{decimal_of(weight)} * {a} + {decimal_of(other)} * {b}", 2, "%")
    return [f"A portfolio holds {weight}% shares with an expected return of {a}% and the rest bonds with {b}%. What is its expected "
            "return?",
            f"What is the expected return of a portfolio with {weight}% in shares at {a}% and the remainder in bonds at {b}%?"], c


@family("portfolio", 5)
def portfolio_risk(r):
    weight, a, b, rho = r.choice([30, 40, 50, 60, 70]), r.choice([15, 18, 20, 24]), r.choice([5, 8, 10, 12]), r.choice([0.1, 0.2, 0.3, 0.5])
    c = Calculation("standard deviation = √(wA^2 × sA^2 + wB^2 × sB^2 + 2 × wA × wB × correlation × sA × sB)")
    w, v = decimal_of(weight), decimal_of(100 - weight)
    own = c.step("own variances", f"{w} ** 2 * {a} ** 2 + {v} ** 2 * {b} ** 2", 4)
    both = c.step("covariance part", f"2 * {w} * {v} * {rho} * {a} * {b}", 4)
    c.step("standard deviation", f"sqrt({own} + {both})", 2, "%")
    return [f"A portfolio holds {weight}% of asset A with a standard deviation of {a}% and {100 - weight}% of asset B with {b}%. The "
            f"correlation is {rho}. What is the standard deviation of the portfolio?",
            f"Asset A ({weight}% of the portfolio) has a volatility of {a}%, asset B ({100 - weight}%) has {b}%, and their correlation "
            f"is {rho}. What is the volatility of the portfolio?"], c


@family("portfolio", 2)
def sharpe_ratio(r):
    value, free, risk = r.choice([6, 7, 8, 9, 10, 12]), r.choice([1, 1.5, 2, 2.5, 3]), r.choice([8, 10, 12, 14, 15, 18])
    c = Calculation("Sharpe ratio = (return - risk-free rate) / standard deviation")
    c.step("ratio", f"({value} - {free}) / {risk}")
    return [f"A fund returns {value}% with a standard deviation of {risk}% and the risk-free rate is {free}%. What is its Sharpe "
            "ratio?",
            f"What is the Sharpe ratio of a portfolio with a return of {value}%, a volatility of {risk}% and a risk-free rate of "
            f"{free}%?"], c


@family("portfolio", 2)
def capm(r):
    free, beta, market = r.choice([1, 2, 2.5, 3, 4]), r.choice([0.6, 0.8, 0.9, 1.1, 1.25, 1.4, 1.6]), r.choice([6, 7, 8, 9, 10])
    c = Calculation("expected return = risk-free rate + beta × (market return - risk-free rate)")
    c.step("expected return", f"{free} + {beta} * ({market} - {free})", 2, "%")
    return [f"The risk-free rate is {free}%, the expected market return {market}% and the beta of a share {beta}. What return does the "
            "capital asset pricing model expect?",
            f"Use the capital asset pricing model to find the expected return of a share with beta {beta}, a risk-free rate of {free}% "
            f"and a market return of {market}%."], c


@family("portfolio", 3)
def fund_costs(r):
    p, gross, fee, years = r.randrange(10, 90) * 500, r.choice([5, 6, 7, 8]), r.choice([0.25, 0.5, 1, 1.5]), r.randint(5, 15)
    c = Calculation("final value = investment × (1 + return - costs)^years")
    net = c.step("net return in percent", f"{gross} - {fee}", 2, "%")
    c.step("final value", f"{p} * (1 + {decimal_of(net)}) ** {years}")
    return [f"{money(p)} is invested for {years} years in a fund that returns {gross}% a year before yearly costs of {fee}%. What is the "
            "final value?",
            f"A fund earns {gross}% a year and charges {fee}% a year. What does {money(p)} become in {years} years?"], c


@family("valuation", 4)
def net_present_value(r):
    rate = r.choice([5, 6, 8, 10, 12])
    flows = [r.randrange(20, 80) * 500 for _ in range(3)]
    cost = int(sum(flows) * r.uniform(0.75, 0.95) / 500) * 500
    c = Calculation("net present value = -cost + sum of cash flow / (1 + rate)^year")
    values = [c.step(f"present value of year {i}", f"{flow} / (1 + {decimal_of(rate)}) ** {i}") for i, flow in enumerate(flows, 1)]
    c.step("net present value", f"-{cost} + {values[0]} + {values[1]} + {values[2]}")
    return [f"A project costs {money(cost)} and returns {money(flows[0])}, {money(flows[1])} and {money(flows[2])} at the end of years 1, "
            f"2 and 3. What is its net present value at {rate}%?",
            f"What is the net present value at {rate}% of an investment of {money(cost)} with cash flows of {money(flows[0])} after 1 "
            f"year, {money(flows[1])} after 2 years and {money(flows[2])} after 3 years?"], c


@family("valuation", 4)
def wacc(r):
    equity, debt = r.randrange(20, 80) * 10000, r.randrange(10, 60) * 10000
    ke, kd, tax = r.choice([8, 9, 10, 11, 12]), r.choice([4, 5, 6, 7]), r.choice([20, 25, 30])
    c = Calculation("cost of capital = equity share × cost of equity + debt share × cost of debt × (1 - tax rate)")
    we = c.step("equity share", f"{equity} / ({equity} + {debt})", 4)
    wd = c.step("debt share", f"{debt} / ({equity} + {debt})", 4)
    c.step("cost of capital", f"{we} * {ke} + {wd} * {kd} * (1 - {decimal_of(tax)})", 2, "%")
    return [f"Equity is worth {money(equity)} and costs {ke}%, debt is worth {money(debt)} and costs {kd}%, and the tax rate is {tax}%. "
            "What is the weighted average cost of capital?",
            f"What is the weighted average cost of capital of a company with equity of {money(equity)} at {ke}%, debt of {money(debt)} "
            f"at {kd}% and a tax rate of {tax}%?"], c


@family("valuation", 3)
def gordon_growth(r):
    dividend, growth, rate = r.choice([1, 1.5, 2, 2.4, 3, 3.2, 4]), r.choice([1, 2, 3, 4]), r.choice([7, 8, 9, 10])
    c = Calculation("share value = last dividend × (1 + growth rate) / (required return - growth rate)")
    following = c.step("next dividend", f"{dividend} * (1 + {decimal_of(growth)})", 4)
    c.step("share value", f"{following} / ({decimal_of(rate)} - {decimal_of(growth)})")
    return [f"A share just paid a dividend of {money(dividend)}, which grows by {growth}% a year. What is the share worth at a required "
            f"return of {rate}%?",
            f"Use the Gordon growth model for a last dividend of {money(dividend)}, growth of {growth}% and a required return of {rate}%. "
            "What is the share value?"], c


@family("valuation", 1)
def payback(r):
    inflow = r.randrange(4, 60) * 500
    cost = inflow * r.choice([2, 3, 4, 5]) + r.choice([0, inflow // 4, inflow // 2])
    c = Calculation("payback period = cost / annual cash inflow")
    c.step("payback period", f"{cost} / {inflow}")
    return [f"A machine costs {money(cost)} and saves {money(inflow)} a year. What is its payback period in years?",
            f"What is the payback period in years of a project with a cost of {money(cost)} and yearly inflows of {money(inflow)}?"], c


@family("valuation", 2)
def enterprise_value(r):
    cap, debt, cash = r.randrange(200, 900) * 10000, r.randrange(20, 300) * 10000, r.randrange(5, 90) * 10000
    c = Calculation("enterprise value = market capitalisation + debt - cash")
    c.step("enterprise value", f"{cap} + {debt} - {cash}", 0)
    return [f"A company has a market capitalisation of {money(cap)}, debt of {money(debt)} and cash of {money(cash)}. What is its "
            "enterprise value?",
            f"What is the enterprise value if market capitalisation is {money(cap)}, debt {money(debt)} and cash {money(cash)}?"], c


@family("risk", 2)
def expected_loss(r):
    exposure, pd, lgd = r.randrange(10, 200) * 5000, r.choice([0.5, 1, 1.5, 2, 3, 4]), r.choice([35, 40, 45, 50, 60])
    c = Calculation("expected loss = probability of default × loss given default × exposure")
    c.step("expected loss", f"{decimal_of(pd)} * {decimal_of(lgd)} * {exposure}")
    return [f"A loan of {money(exposure)} has a default probability of {pd}% and a loss given default of {lgd}%. What is the expected "
            "loss?",
            f"What is the expected credit loss on an exposure of {money(exposure)} with a default probability of {pd}% and a loss given "
            f"default of {lgd}%?"], c


@family("risk", 4)
def value_at_risk(r):
    p, vol, (level, z), days = r.randrange(10, 200) * 10000, r.choice([0.8, 1, 1.2, 1.5, 2]), r.choice([(95, 1.645), (99, 2.326)]), r.choice([4, 9, 16, 25])
    c = Calculation("value at risk = portfolio value × daily volatility × z × √days")
    one = c.step("one-day value at risk", f"{p} * {decimal_of(vol)} * {z}")
    c.step("value at risk", f"{one} * sqrt({days})")
    return [f"A portfolio of {money(p)} has a daily volatility of {vol}%. What is its {days}-day value at risk at {level}% with z = {z}, "
            "assuming normal returns with mean zero?",
            f"With z = {z} for {level}% confidence, what is the normal value at risk over {days} days of {money(p)} at a daily volatility "
            f"of {vol}%?"], c


@family("risk", 3)
def hedge_contracts(r):
    size = r.choice([25000, 50000, 100000, 125000])
    beta, n = r.choice([0.8, 0.9, 1.1, 1.2, 1.5]), r.randrange(4, 40)
    p = size * n * 10
    c = Calculation("number of contracts = beta × portfolio value / contract value")
    c.step("contracts", f"{beta} * {p} / {size}", 0)
    return [f"How many index futures worth {money(size)} each hedge a portfolio of {money(p)} with a beta of {beta}?",
            f"A portfolio of {money(p)} with beta {beta} is hedged with index futures of {money(size)} each. How many contracts are "
            "sold?"], c


@family("risk", 2)
def insurance_premium(r):
    loss, chance, load = r.randrange(10, 200) * 500, r.choice([0.5, 1, 1.5, 2, 4]), r.choice([15, 20, 25, 30, 40])
    c = Calculation("premium = sum insured × probability of loss × (1 + loading)")
    pure = c.step("pure premium", f"{loss} * {decimal_of(chance)}")
    c.step("premium", f"{pure} * (1 + {decimal_of(load)})")
    return [f"An insurer covers a loss of {money(loss)} that occurs with a probability of {chance}% and adds a loading of {load}%. What is "
            "the premium?",
            f"What premium covers a possible loss of {money(loss)} with probability {chance}% and a loading of {load}%?"], c


@family("regulation", 2)
def capital_ratio(r):
    assets = r.randrange(200, 900) * 10000
    capital = int(assets * r.uniform(0.08, 0.19) / 1000) * 1000
    c = Calculation("capital ratio = capital / risk-weighted assets × 100")
    c.step("ratio", f"{capital} / {assets} * 100", 2, "%")
    return [f"A bank has regulatory capital of {money(capital)} and risk-weighted assets of {money(assets)}. What is its capital ratio?",
            f"What is the capital ratio of a bank with risk-weighted assets of {money(assets)} and capital of {money(capital)}?"], c


@family("regulation", 4)
def risk_weighted_assets(r):
    cash, homes, firms = (r.randrange(10, 90) * 10000 for _ in range(3))
    ratio = r.choice([8, 10, 10.5, 12])
    home, firm = r.choice([35, 40, 50]), r.choice([75, 85, 100])
    c = Calculation("required capital = sum of (asset × risk weight) × required ratio")
    weighted = c.step("risk-weighted assets", f"{cash} * 0 + {homes} * {decimal_of(home)} + {firms} * {decimal_of(firm)}")
    c.step("required capital", f"{weighted} * {decimal_of(ratio)}")
    return [f"A bank holds cash of {money(cash)} with a risk weight of 0%, mortgages of {money(homes)} with {home}% and corporate loans "
            f"of {money(firms)} with {firm}%. How much capital does a ratio of {ratio}% require?",
            f"Risk weights are 0% for {money(cash)} of cash, {home}% for {money(homes)} of mortgages and {firm}% for {money(firms)} of "
            f"corporate loans. What capital is required at {ratio}%?"], c


@family("banking", 1)
def household_budget(r):
    income, rent, food, other = r.randrange(40, 90) * 50, r.randrange(12, 30) * 25, r.randrange(8, 20) * 25, r.randrange(6, 24) * 25
    c = Calculation("savings = income - expenses")
    c.step("savings", f"{income} - {rent} - {food} - {other}", 0)
    return [f"A household earns {money(income)} a month and spends {money(rent)} on rent, {money(food)} on food and {money(other)} on the "
            "rest. How much does it save?",
            f"Monthly income is {money(income)}, rent {money(rent)}, food {money(food)} and other spending {money(other)}. How much is "
            "left?"], c


@family("banking", 3)
def net_interest_margin(r):
    assets = r.randrange(100, 900) * 10000
    earned, paid = int(assets * r.uniform(0.04, 0.06) / 1000) * 1000, int(assets * r.uniform(0.01, 0.025) / 1000) * 1000
    c = Calculation("net interest margin = (interest earned - interest paid) / earning assets × 100")
    income = c.step("net interest income", f"{earned} - {paid}", 0)
    c.step("net interest margin", f"{income} / {assets} * 100", 2, "%")
    return [f"A bank earns interest of {money(earned)} on assets of {money(assets)} and pays interest of {money(paid)}. What is its net "
            "interest margin?",
            f"Interest earned is {money(earned)}, interest paid {money(paid)} and earning assets are {money(assets)}. What is the net "
            "interest margin?"], c
